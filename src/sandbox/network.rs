//! A private network, and published ports.
//!
//! **Holds.** The warden creates the network namespace and keeps two helpers with access to the outer one: a user-mode
//! program (`pasta` or `slirp4netns`) that forwards packets, and a forwarder for published ports.
//! **Order.** Helpers are forked while the warden is still in the outer network namespace, wait for the new one, and
//! are ready before the command starts. They die with the warden.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitIdOptions};
use rustix::thread::UnshareFlags;

use super::hint::Hint;
use super::network_helper::NetworkHelper;
use super::problem::{Context, Problem, StepResult};
use super::process::die_with_parent;
use super::publish::{self, Ports};
use super::resolv;
use super::spec::{Network, Spec};
use super::sys::{self, Fork};
use super::userns::{self, Privilege};
use crate::base::fs;

/// How long a helper may take to set up the network.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the warden, not init, creates the network namespace.
pub(super) fn is_made_by_warden(spec: &Spec, ports: &Ports) -> bool {
    match spec.network {
        Network::Host => false,
        Network::None => !ports.is_empty(),
        Network::Private => true,
    }
}

/// Helper processes, which run as long as the command.
#[derive(Debug, Default)]
pub(super) struct Helpers(Vec<Helper>);

#[derive(Debug)]
struct Helper {
    pid: Pid,
    /// Closing it tells the helper to finish.
    go: Option<io::PipeWriter>,
    /// Its standard error, kept open: writing to a closed pipe would kill it.
    output: Option<io::PipeReader>,
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

/// Ok: this process is in a new network namespace, connected as `spec` says; `ports` are forwarded into it, and `spec`
/// names a resolver that is reachable from there.
pub(super) fn enter(spec: &mut Spec, ports: Ports) -> StepResult<Helpers> {
    let mut helpers = Helpers::default();
    let connector = match spec.network {
        Network::Private => Some(NetworkHelper::find().ok_or_else(|| {
            Problem::lacking("cannot set up a private network: neither pasta nor slirp4netns is installed")
                .hint(Hint::NoNetworkHelper)
        })?),
        _ => None,
    };
    let connector = match connector {
        Some(helper) => {
            let mut child = start_connector(helper)?;
            helpers.0.push(Helper { pid: child.pid, go: None, output: child.output.take() });
            Some((helper, child))
        }
        None => None,
    };
    let forwarder = if ports.is_empty() { None } else { Some(start(|go| publish::forward(ports, go))?) };

    sys::unshare(UnshareFlags::NEWNET).context(|| "create a network namespace".to_owned())?;
    sys::loopback_up().context(|| "bring the loopback interface up".to_owned())?;
    if let Some(mut child) = forwarder {
        let started = child.go.write_all(b"g");
        helpers.0.push(Helper { pid: child.pid, go: Some(child.go), output: None });
        started.context(|| "start the port forwarder".to_owned())?;
    }
    if let Some((helper, mut child)) = connector {
        child.go.write_all(b"g").context(|| format!("start {}", helper.name()))?;
        wait_for_route(helper, &mut helpers.0[0])?;
        if let Some(text) = &spec.resolv_conf {
            spec.resolv_conf = Some(resolv::reachable(text, helper.resolver()));
        }
    }
    Ok(helpers)
}

/// A forked process that waits for one byte before it goes on.
struct Forked {
    pid: Pid,
    go: io::PipeWriter,
    output: Option<io::PipeReader>,
}

/// Forks a process that runs `work` and exits with its result. It dies with this process.
fn start(work: impl FnOnce(io::PipeReader) -> i32) -> StepResult<Forked> {
    let (waits, go) = io::pipe().context(|| "create a pipe".to_owned())?;
    match sys::fork().context(|| "fork".to_owned())? {
        Fork::Parent(pid) => Ok(Forked { pid, go, output: None }),
        Fork::Child => {
            drop(go);
            sys::default_signals();
            sys::unblock_signals();
            let code = match die_with_parent().and_then(|()| detach_streams()) {
                Ok(()) => work(waits),
                Err(_) => 1,
            };
            std::process::exit(code)
        }
    }
}

fn start_connector(helper: NetworkHelper) -> StepResult<Forked> {
    let path = helper.program().unwrap_or_default();
    let real_root = matches!(userns::privilege(), Ok(Privilege::Root));
    let (output, stderr) = io::pipe().context(|| "create a pipe".to_owned())?;
    // A full pipe must not block the helper.
    rustix::io::ioctl_fionbio(&stderr, true).context(|| "create a pipe".to_owned())?;
    let outer = rustix::process::getpid();
    let mut forked = start(|mut waits| {
        if nix::unistd::dup2_stderr(&stderr).is_err() || waits.read_exact(&mut [0]).is_err() {
            return 1;
        }
        // The only descriptor that the helper inherits. It drops its rights before it could open the path itself.
        let open = rustix::fs::open(format!("/proc/{}/ns/net", outer.as_raw_nonzero()), OFlags::RDONLY, Mode::empty());
        let Ok(netns) = open else { return 1 };
        let words = helper.command(netns.as_raw_fd(), real_root);
        let words = words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
        if let (Ok(path), Ok(words)) = (CString::new(path), words) {
            let _ = nix::unistd::execve(&path, &words, &[c"PATH=/usr/bin:/bin:/usr/sbin:/sbin"]);
        }
        // Standard error is a pipe to the warden.
        let _ = writeln!(io::stderr(), "cannot execute {}", helper.name());
        1
    })?;
    forked.output = Some(output);
    Ok(forked)
}

/// A helper must not hold the command's output open.
fn detach_streams() -> io::Result<()> {
    let null: OwnedFd = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Waits until the helper has set up a route out of this network namespace.
fn wait_for_route(helper: NetworkHelper, child: &mut Helper) -> StepResult<()> {
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
            let mut output = Vec::new();
            if let Some(pipe) = &mut child.output {
                let _ = pipe.take(4096).read_to_end(&mut output);
            }
            let output = String::from_utf8_lossy(&output).trim().replace('\n', "; ");
            let problem = Problem::lacking(format!("cannot set up a private network with {name}: it has ended"));
            return Err(problem.hint(match Path::new("/dev/net/tun").exists() {
                true => Hint::NetworkHelperFailed { helper, output },
                false => Hint::NoTunDevice,
            }));
        }
        if began.elapsed() > TIMEOUT {
            let problem = Problem::lacking(format!("cannot set up a private network with {name}: it takes too long"));
            return Err(problem.hint(Hint::NetworkHelperSlow { helper, seconds: TIMEOUT.as_secs() }));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a route leads through another interface than loopback.
fn leads_out(v4: &str, v6: &str) -> bool {
    let device_of_v4 = v4.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    // Routes with prefix length 0 are default routes; every interface has link-local ones.
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
    fn loopback_routes_do_not_lead_out() {
        let v4 = "Iface\tDestination\tGateway\n";
        let v6 = "00000000000000000000000000000001 80 0 00 0 0 0 0 00000000 lo\n\
                  00000000000000000000000000000000 00 0 00 0 0 0 0 00200200 lo\n\
                  fe800000000000000000000000000000 40 0 00 0 0 0 0 00000001 eth0\n";
        assert!(!leads_out(v4, v6));
        assert!(leads_out(&format!("{v4}eth0\t00000000\t0100000A\n"), v6));
        assert!(leads_out(v4, "00000000000000000000000000000000 00 0 00 0 0 0 0 00000003 eth0\n"));
    }
}
