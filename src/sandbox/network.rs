//! A network of the command's own that leads somewhere.
//!
//! **Holds.** The warden makes the network namespace itself and keeps beside it whoever needs one foot outside: a
//! user-mode helper (`pasta` or `slirp4netns`) that carries packets, and a forwarder for published ports.
//! **Order.** They are forked while the warden is still in the outer network, wait for the new one, and are ready before
//! the command starts. Each dies with the warden.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitIdOptions};
use rustix::thread::UnshareFlags;

use super::problem::{Doing, Problem, Step};
use super::publish::{self, Ports};
use super::resolv;
use super::spec::{Network, Spec};
use super::sys::{self, Fork};
use super::userns::{self, Standing};
use crate::base::fs;

/// How long a helper may take to set the network up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Helpers are looked for here; a search path of somebody's making would be the wrong place.
const DIRS: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/current-system/sw/bin"];

/// Who carries packets between a network of its own and the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkHelper {
    /// From the package `passt`.
    Pasta,
    /// From the package of that name.
    Slirp4netns,
}

impl NetworkHelper {
    /// The first one that is installed.
    pub fn find() -> Option<Self> {
        [Self::Pasta, Self::Slirp4netns].into_iter().find(|helper| program(helper.name()).is_some())
    }

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Where it answers name queries inside, on behalf of the host's resolver.
    fn resolver(self) -> Ipv4Addr {
        match self {
            Self::Pasta => Ipv4Addr::new(169, 254, 1, 1),
            Self::Slirp4netns => Ipv4Addr::new(10, 0, 2, 3),
        }
    }

    /// Its command line, for the network namespace that it finds open under this number.
    fn command(self, netns: i32, real_root: bool) -> Vec<String> {
        let netns = format!("/proc/self/fd/{netns}");
        let words: Vec<&str> = match self {
            // Nothing of the host's loopback, and no port, appears inside; nothing inside outside.
            Self::Pasta => {
                let mut words = vec!["pasta", "--config-net", "--foreground", "--quiet", "--no-map-gw"];
                words.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
                words.extend(["--dns-forward", "169.254.1.1", "--netns-only", "--netns", &netns]);
                if real_root {
                    words.extend(["--runas", "0:0"]);
                }
                words
            }
            Self::Slirp4netns => {
                let mut words = vec!["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback"];
                words.extend(["--netns-type=path", &netns, "tap0"]);
                words
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Who would carry a private network's packets here, or what is missing for one.
pub fn private_network() -> Result<NetworkHelper, String> {
    let helper = NetworkHelper::find()
        .ok_or("neither pasta nor slirp4netns is installed (packages passt and slirp4netns)".to_owned())?;
    match rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Ok(helper),
        Err(rustix::io::Errno::NOENT) => Err("there is no /dev/net/tun (modprobe tun)".to_owned()),
        Err(e) => Err(format!("/dev/net/tun: {} (as root: chmod 666 /dev/net/tun)", io::Error::from(e))),
    }
}

fn program(name: &str) -> Option<String> {
    DIRS.iter().map(|dir| format!("{dir}/{name}")).find(|path| Path::new(path).exists())
}

/// The warden makes the namespace, not init.
pub(super) fn is_made_by_warden(spec: &Spec, ports: &Ports) -> bool {
    match spec.network {
        Network::Host => false,
        Network::None => !ports.is_empty(),
        Network::Private => true,
    }
}

/// Those who stay while the command runs.
#[derive(Debug, Default)]
pub(super) struct Helpers(Vec<Helper>);

#[derive(Debug)]
struct Helper {
    pid: Pid,
    /// Its end tells this one to finish.
    go: Option<io::PipeWriter>,
    /// What it says. Kept open: whoever says something to nobody dies of it.
    said: Option<io::PipeReader>,
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for Helper { pid, go, .. } in &mut self.0 {
            let ended = |options| rustix::process::waitid(rustix::process::WaitId::Pid(*pid), options);
            if go.take().is_some() {
                let began = Instant::now();
                while began.elapsed() < publish::GRACE * 2 {
                    match ended(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT) {
                        Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                        _ => break,
                    }
                }
            }
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
            let _ = ended(WaitIdOptions::EXITED);
        }
    }
}

/// Ok: this process is in a network namespace of its own, connected as `spec` wants, `ports` lead into it, and `spec` names
/// a resolver that can be reached from there.
pub(super) fn enter(spec: &mut Spec, ports: Ports) -> Step<Helpers> {
    let mut helpers = Helpers::default();
    let carrier = match spec.network {
        Network::Private => Some(NetworkHelper::find().ok_or_else(|| {
            Problem::lacking("a private network needs pasta or slirp4netns, and neither is installed").hint(
                "install the package passt or slirp4netns, or use the host's network (--network host) or none at all",
            )
        })?),
        _ => None,
    };
    let carrier = match carrier {
        Some(helper) => {
            let mut child = start_carrier(helper)?;
            helpers.0.push(Helper { pid: child.pid, go: None, said: child.said.take() });
            Some((helper, child))
        }
        None => None,
    };
    let forwarder = if ports.is_empty() { None } else { Some(start(|go| publish::forward(ports, go))?) };

    sys::unshare(UnshareFlags::NEWNET).doing(|| "make a network namespace".to_owned())?;
    sys::loopback_up().doing(|| "bring the loopback interface up".to_owned())?;
    if let Some(mut child) = forwarder {
        let started = child.go.write_all(b"g");
        helpers.0.push(Helper { pid: child.pid, go: Some(child.go), said: None });
        started.doing(|| "start the port forwarder".to_owned())?;
    }
    if let Some((helper, mut child)) = carrier {
        child.go.write_all(b"g").doing(|| format!("start {}", helper.name()))?;
        wait_for_route(helper, &mut helpers.0[0])?;
        if let Some(text) = &spec.resolv_conf {
            spec.resolv_conf = Some(resolv::reachable(text, helper.resolver()));
        }
    }
    Ok(helpers)
}

/// A forked process that waits for a word before it goes on.
struct Waiting {
    pid: Pid,
    go: io::PipeWriter,
    said: Option<io::PipeReader>,
}

/// Forks one that runs `work` and ends. It dies with this process.
fn start(work: impl FnOnce(io::PipeReader) -> i32) -> Step<Waiting> {
    let (waits, go) = io::pipe().doing(|| "make a pipe".to_owned())?;
    match sys::fork().doing(|| "fork".to_owned())? {
        Fork::Parent(pid) => Ok(Waiting { pid, go, said: None }),
        Fork::Child => {
            drop(go);
            sys::default_signals();
            sys::unblock_signals();
            let code = match die_with_parent().and_then(|()| silence()) {
                Ok(()) => work(waits),
                Err(_) => 1,
            };
            std::process::exit(code)
        }
    }
}

fn start_carrier(helper: NetworkHelper) -> Step<Waiting> {
    let path = program(helper.name()).unwrap_or_default();
    let real_root = matches!(userns::standing(), Ok(Standing::Root));
    let (said, says) = io::pipe().doing(|| "make a pipe".to_owned())?;
    // What nobody reads must not hold it up.
    rustix::io::ioctl_fionbio(&says, true).doing(|| "make a pipe".to_owned())?;
    let outer = rustix::process::getpid();
    let mut waiting = start(|mut waits| {
        if nix::unistd::dup2_stderr(&says).is_err() || waits.read_exact(&mut [0]).is_err() {
            return 1;
        }
        // The one descriptor it inherits. By path it could not look it up: it gives its rights away first.
        let open = rustix::fs::open(format!("/proc/{}/ns/net", outer.as_raw_nonzero()), OFlags::RDONLY, Mode::empty());
        let Ok(netns) = open else { return 1 };
        let words = helper.command(netns.as_raw_fd(), real_root);
        let words = words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
        if let (Ok(path), Ok(words)) = (CString::new(path), words) {
            let _ = nix::unistd::execve(&path, &words, &[c"PATH=/usr/bin:/bin:/usr/sbin:/sbin"]);
        }
        // Leads to the parent here.
        let _ = writeln!(io::stderr(), "{} could not be executed", helper.name());
        1
    })?;
    waiting.said = Some(said);
    Ok(waiting)
}

fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// The command's output is not theirs to hold open.
fn silence() -> io::Result<()> {
    let null: OwnedFd = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Waits until the helper has set up a way out of this network namespace.
fn wait_for_route(helper: NetworkHelper, child: &mut Helper) -> Step<()> {
    let began = Instant::now();
    let name = helper.name();
    loop {
        let table = |path: &str| fs::read(Path::new(path)).map(|b| String::from_utf8_lossy(&b).into_owned());
        let (v4, v6) = (table("/proc/self/net/route"), table("/proc/self/net/ipv6_route"));
        if leads_out(&v4.unwrap_or_default(), &v6.unwrap_or_default()) {
            return Ok(());
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = rustix::process::waitid(rustix::process::WaitId::Pid(child.pid), options);
        if !matches!(ended, Ok(None)) {
            let mut said = Vec::new();
            if let Some(pipe) = &mut child.said {
                let _ = pipe.take(4096).read_to_end(&mut said);
            }
            let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
            let problem = Problem::lacking(format!("set up a private network with {name}"));
            return Err(problem.hint(match Path::new("/dev/net/tun").exists() {
                true if said.is_empty() => format!("{name} gave up; /dev/net/tun must be readable and writable"),
                true => format!("{name} says: {said}; /dev/net/tun must be readable and writable"),
                false => "there is no /dev/net/tun (modprobe tun)".to_owned(),
            }));
        }
        if began.elapsed() > PATIENCE {
            let problem = Problem::lacking(format!("set up a private network with {name}"));
            return Err(problem.hint(format!("{name} made no way out within {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Some route goes elsewhere than through the loopback interface.
fn leads_out(v4: &str, v6: &str) -> bool {
    let device_of_v4 = v4.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    // Networks of length 0 are defaults; every interface has link-local ones.
    let device_of_v6 = v6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00")).then(|| fields.last().copied()).flatten()
    });
    device_of_v4.chain(device_of_v6).any(|device| device != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_only_a_loopback_leads_nowhere() {
        let v4 = "Iface\tDestination\tGateway\n";
        let v6 = "00000000000000000000000000000001 80 0 00 0 0 0 0 00000000 lo\n\
                  00000000000000000000000000000000 00 0 00 0 0 0 0 00200200 lo\n\
                  fe800000000000000000000000000000 40 0 00 0 0 0 0 00000001 eth0\n";
        assert!(!leads_out(v4, v6));
        assert!(leads_out(&format!("{v4}eth0\t00000000\t0100000A\n"), v6));
        assert!(leads_out(v4, "00000000000000000000000000000000 00 0 00 0 0 0 0 00000003 eth0\n"));
    }

    #[test]
    fn a_helper_is_told_to_open_nothing() {
        let pasta = NetworkHelper::Pasta.command(9, true).join(" ");
        for part in ["-t none", "-u none", "-T none", "-U none", "--no-map-gw", "/proc/self/fd/9", "--runas 0:0"] {
            assert!(pasta.contains(part), "{part}: {pasta}");
        }
        assert!(!NetworkHelper::Pasta.command(9, false).join(" ").contains("--runas"));
        assert!(NetworkHelper::Slirp4netns.command(9, false).join(" ").contains("--disable-host-loopback"));
    }
}
