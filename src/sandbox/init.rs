//! Pid 1: from a copy of kiln to the command, in one straight procedure.
//!
//! The order is the argument:
//! 1. *Own session, default signals, death with the parent*: from here on nothing of the caller's terminal or habits is
//!    left (S-73).
//! 2. *Namespaces* before any mount: what we mount is seen by nobody else and goes away with us. Where no `/proc` of our
//!    own is to be had, also one of users: others see us in theirs, and may not look inside.
//! 3. *Sources opened* before the root exists: host paths are resolved while there is nothing of the image to mislead us.
//! 4. *Root, then system mounts, then the mounts asked for*: later ones may sit in earlier ones.
//! 5. *Pivot*: the host's tree is gone. From here on a path means what the command would mean by it.
//! 6. *Network, user looked up, working directory entered, limits* while still root.
//! 7. *Confinement* last: everything above may use any system call. Then the command is forked off (see [`first`]), and
//!    executed.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use crate::base::rooted::Root;

use super::message::{Message, Orders, Stage};
use super::mountfs::NODEV;
use super::problem::{Doing, Problem, Step};
use super::rootfs::{self, Target};
use super::spec::{Network, Security, Spec};
use super::stubs::Kind;
use super::user::Identity;
use super::userns::{self, Standing};
use super::wire::Wire;
use super::{apart, confine, exec, first, launch, message, mounts, sys, system, terminal, user, watch};

/// What the warden has seen to already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    /// To [`apart`].
    pub(super) apart: bool,
    /// To the network.
    pub(super) network: bool,
}

/// Becomes the command of these orders, or says over `wire` why not.
pub(super) fn run(orders: &Orders<Spec>, ahead: Ahead, wire: &Wire, status: &Wire) -> ! {
    let mut init = Init { spec: &orders.spec, orders, ahead, wire, status, stage: Stage::Start };
    let problem = match init.procedure() {
        Err(problem) => problem,
        Ok(never) => match never {},
    };
    let code = i32::from(problem.code_now());
    // If kiln is gone, nobody is left to tell.
    let _ = wire.send(&Message::Failed(problem.at(init.stage)));
    std::process::exit(code)
}

struct Init<'a> {
    spec: &'a Spec,
    orders: &'a Orders<Spec>,
    ahead: Ahead,
    wire: &'a Wire,
    /// To the warden.
    status: &'a Wire,
    stage: Stage,
}

impl Init<'_> {
    fn procedure(&mut self) -> Step<std::convert::Infallible> {
        let spec = self.spec;
        own_life()?;
        let limits = userns::limits();

        self.reach(Stage::Namespaces)?;
        let own_network = spec.network != Network::Host && !self.ahead.network;
        let mut fallbacks = Vec::new();
        unshare(spec, own_network, &mut fallbacks)?;
        let proc = system::fresh_proc()?;
        if proc.is_none() {
            let apart = matches!(userns::standing(), Ok(Standing::Namespace { .. }));
            if apart && !self.ahead.apart {
                apart::own_users()?;
                fallbacks.clear();
                unshare(spec, own_network, &mut fallbacks)?;
            }
            fallbacks.push(system::no_proc(apart));
        }

        self.reach(Stage::Mounts)?;
        let prepared = mounts::prepare(spec)?;

        self.reach(Stage::Rootfs)?;
        let targets = targets(&prepared);
        let attributes = match spec.security {
            Security::Sandbox => NODEV,
            Security::Insecure => rustix::mount::MountAttrFlags::empty(),
        };
        let mounted = rootfs::mount(&spec.rootfs, &targets, attributes)?;
        if !mounted.made.is_empty() {
            self.say(&Message::Made(mounted.made))?;
        }
        let root = mounted.root;

        self.reach(Stage::SystemMounts)?;
        system::mount(&root, spec, proc, self.orders.terminal, &mut fallbacks)?;

        self.reach(Stage::Mounts)?;
        mounts::attach(&root, prepared)?;

        self.reach(Stage::Pivot)?;
        pivot(&root)?;

        self.reach(Stage::Network)?;
        if own_network && let Err(e) = sys::loopback_up() {
            fallbacks.push(("a loopback interface that is up".to_owned(), e.to_string()));
        }
        for (what, why) in fallbacks {
            self.say(&Message::Fallback(what, why))?;
        }

        self.reach(Stage::User)?;
        let identity = user::resolve(&root, &spec.user)?;
        enter(&root, &spec.cwd)?;
        let env = environment(spec, &identity.home);
        if self.orders.terminal {
            let outer = terminal::make(&identity)?;
            let told = self.wire.send_with(&Message::Terminal, outer.as_fd());
            told.doing(|| "hand the terminal over".to_owned())?;
        }
        own_streams(&identity)?;
        drop(root);

        self.be_watched()?;
        // From here on no file is opened: that of open files may be as low as one likes.
        self.reach(Stage::Limits)?;
        confine::limit(&spec.rlimits)?;

        self.reach(Stage::Confine)?;
        let listener = confine::confine(&identity, &spec.extra_groups, spec.security, limits)?;
        if let Some(listener) = listener {
            self.status.send_fd(listener.as_fd()).doing(|| "hand the listener over".to_owned())?;
        }
        // Changing the user cleared it.
        die_with_parent()?;

        self.reach(Stage::Exec)?;
        if !spec.pid_one {
            first::fork_command(self.status.as_fd())?;
        }
        confine::limit_processes(&spec.rlimits)?;
        if self.orders.terminal {
            terminal::control()?;
        }
        sys::unblock_signals();
        Err(exec::exec(&spec.argv, &env))
    }

    /// From here on kiln is asked about calls that change files.
    fn be_watched(&self) -> Step<()> {
        let Some(files) = self.orders.watched else { return Ok(()) };
        match watch::install(files) {
            Ok(listener) => {
                let told = self.wire.send_with(&Message::Watched, listener.as_fd());
                told.doing(|| "hand the listener over".to_owned())
            }
            Err(e) => {
                let (what, why) = message::unwatched(&e.to_string());
                self.say(&Message::Fallback(what, why))
            }
        }
    }

    fn reach(&mut self, stage: Stage) -> Step<()> {
        self.stage = stage;
        self.say(&Message::Reached(stage))
    }

    fn say(&self, message: &Message) -> Step<()> {
        self.wire.send(message).doing(|| "speak to kiln".to_owned())
    }
}

fn own_life() -> Step<()> {
    die_with_parent()?;
    launch::name_process("kiln:init".as_ref());
    sys::default_signals();
    rustix::process::setsid().doing(|| "start a session".to_owned())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Gives the pipes among the standard streams to the command's user: through `/dev/stdout` they are opened anew (N-50).
/// They are all kiln's own. What else there is, `/dev/null` or a terminal, everybody may open or has its owner.
fn own_streams(identity: &Identity) -> Step<()> {
    if identity.uid == 0 {
        return Ok(());
    }
    let owner = rustix::fs::Uid::from_raw(identity.uid);
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [input.as_fd(), output.as_fd(), errors.as_fd()] {
        let stat = rustix::fs::fstat(stream).doing(|| "look at the standard streams".to_owned())?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo {
            match rustix::fs::fchown(stream, Some(owner), None) {
                // The id is not mapped, which is said when the user is set.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(Problem::host("give the standard streams to the user", &e.into())),
            }
        }
    }
    Ok(())
}

fn die_with_parent() -> Step<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "ask to die with the parent".to_owned())
}

/// What isolates is demanded; a host name and the view of control groups of one's own are done without where the
/// surroundings refuse them (N-51).
fn unshare(spec: &Spec, network: bool, fallbacks: &mut Vec<(String, String)>) -> Step<()> {
    let mut needed = UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    if network {
        needed |= UnshareFlags::NEWNET;
    }
    // With every capability a command could rename the host.
    let (mut named, mut spared) = (true, UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP);
    if spec.security == Security::Insecure {
        (needed, spared) = (needed | UnshareFlags::NEWUTS, UnshareFlags::NEWCGROUP);
    }
    if sys::unshare(needed | spared).is_err() {
        sys::unshare(needed).doing(|| "make namespaces".to_owned())?;
        for (flag, what) in [
            (UnshareFlags::NEWUTS, "a host name of its own"),
            (UnshareFlags::NEWCGROUP, "a view of control groups of its own"),
        ] {
            if spared.contains(flag)
                && let Err(e) = sys::unshare(flag)
            {
                fallbacks.push((what.to_owned(), format!("make a namespace: {e}")));
                named &= flag != UnshareFlags::NEWUTS;
            }
        }
    }
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).doing(|| "make all mounts private".to_owned())?;
    if !named {
        return Ok(());
    }
    match rustix::system::sethostname(spec.hostname.as_bytes()) {
        Err(e @ (rustix::io::Errno::PERM | rustix::io::Errno::NOSYS)) => {
            let why = format!("set it: {}", std::io::Error::from(e));
            fallbacks.push((format!("the host name {:?}", spec.hostname), why));
            Ok(())
        }
        set => set.doing(|| format!("set the host name {:?}", spec.hostname)).map_err(Problem::requested),
    }
}

/// Everything that gets mounted over, in order.
fn targets(prepared: &[mounts::Prepared]) -> Vec<Target> {
    let system = ["/proc", "/sys", "/dev"].map(|path| Target { path: path.into(), kind: Kind::Dir });
    let asked = prepared.iter().map(|one| Target { path: one.target.path.clone(), kind: one.target.kind });
    system.into_iter().chain(asked).collect()
}

/// Makes `root` the only tree there is: the old one is stacked under it for a moment, then detached whole (S-72).
fn pivot(root: &Root) -> Step<()> {
    rustix::process::fchdir(root.as_fd()).doing(|| "enter the root".to_owned())?;
    rustix::process::pivot_root(".", ".").doing(|| "pivot_root".to_owned())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "let go of the host's tree".to_owned())?;
    rustix::process::chdir("/").doing(|| "enter the root".to_owned())
}

/// Makes and enters the working directory. Looked up without magic links: `/proc/self/fd/N` leads nowhere (S-1).
fn enter(root: &Root, cwd: &Path) -> Step<()> {
    let doing = || format!("enter working directory {}", cwd.display());
    if !cwd.is_absolute() {
        return Err(Problem::request(format!("working directory {} is not absolute", cwd.display())));
    }
    let dir = match root.open_at(cwd.as_os_str(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        Ok(dir) => dir,
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            if let Some(names) = super::stubs::missing(root, cwd)? {
                super::stubs::make_in_place(root, &names, Kind::Dir)
                    .doing(|| format!("make working directory {}", cwd.display()))
                    .map_err(Problem::requested)?;
            }
            root.open_at(cwd.as_os_str(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .doing(doing)
                .map_err(Problem::requested)?
        }
        Err(e) => return Err(Problem::host(doing(), &e).requested()),
    };
    rustix::process::fchdir(&dir).doing(doing)?;
    // The kernel says "(unreachable)" first if it lies outside the root.
    let here = rustix::process::getcwd(Vec::new()).doing(doing)?;
    if here.to_bytes().first() != Some(&b'/') {
        return Err(Problem::request(format!("working directory {} lies outside the root", cwd.display())));
    }
    Ok(())
}

/// What the command finds in its environment.
fn environment(spec: &Spec, home: &str) -> Vec<(OsString, OsString)> {
    let mut env = spec.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push((OsString::from("HOME"), OsString::from(home)));
    }
    env
}
