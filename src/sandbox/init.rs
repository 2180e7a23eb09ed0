//! Pid 1: sets up the sandbox and starts the command.
//!
//! The order matters:
//! 1. *Session, default signals, death with the parent*: nothing of the caller's terminal or settings remains (S-73).
//! 2. *Namespaces* before any mount: no other process sees the mounts, and they disappear with this process. If no
//!    `/proc` of this pid namespace can be mounted, also a user namespace: other commands see the processes of this
//!    one, but cannot inspect them.
//! 3. *Mount sources are opened* before the root exists: nothing in the image can redirect a host path.
//! 4. *Root, then system mounts, then the mounts of the spec*: later ones may be inside earlier ones.
//! 5. *Pivot*: the host's tree is detached. From here on paths resolve as for the command.
//! 6. *Network, user, working directory, streams*, still as root.
//! 7. *Limits, user, capabilities and filter* last: everything above may use any system call. Then the command is
//!    forked (see [`reaper`]) and executed.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::base::rooted::Root;

use super::authorities;
use super::failure::Stage;
use super::fallback::{Fallback, Feature};
use super::message::{Message, Orders};
use super::mountfs::NODEV;
use super::problem::{Context, Problem, StepResult};
use super::process::{die_with_parent, name_process};
use super::rootfs::{self, Target};
use super::seccomp::Limits;
use super::spec::{Network, Security, Spec};
use super::user::Identity;
use super::userns::{self, Privilege, nested};
use super::wire::Wire;
use super::{confine, exec, mounts, reaper, stubs, supervise, sys, system, terminal, user};
use stubs::Kind;

/// What the warden has set up already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WardenSetup {
    /// The user namespace of [`nested`].
    pub(super) user_namespace: bool,
    /// The network namespace.
    pub(super) network: bool,
}

/// Becomes the command of these orders, or reports over `wire` why it cannot.
pub(super) fn run(orders: &Orders<Spec>, done: WardenSetup, wire: &Wire, status: &Wire) -> ! {
    let mut init = Init { spec: &orders.spec, orders, done, wire, status, stage: Stage::Start, fallbacks: Vec::new() };
    let problem = match init.procedure() {
        Err(problem) => problem,
        Ok(never) => match never {},
    };
    let code = i32::from(problem.code());
    // If kiln is gone, the report is lost.
    let _ = wire.send(&Message::Failed(problem.at(init.stage)));
    std::process::exit(code)
}

struct Init<'a> {
    spec: &'a Spec,
    orders: &'a Orders<Spec>,
    done: WardenSetup,
    wire: &'a Wire,
    /// To the warden.
    status: &'a Wire,
    stage: Stage,
    /// Not yet reported.
    fallbacks: Vec<Fallback>,
}

impl Init<'_> {
    fn procedure(&mut self) -> StepResult<Infallible> {
        own_session()?;
        // A bundle that is mounted over can still be replaced.
        let limits = Limits { names: self.spec.authorities.is_some(), ..userns::limits() };
        let proc = self.enter_namespaces()?;
        let root = self.mount_root(proc)?;
        let entered = self.enter_root(root)?;
        self.watch_files()?;
        self.confine(&entered, limits)?;
        self.become_command(&entered)
    }

    /// Enters new namespaces; returns a `/proc` of the new pid namespace unless the host forbids it.
    fn enter_namespaces(&mut self) -> StepResult<Option<OwnedFd>> {
        self.reach(Stage::Namespaces)?;
        let mut fallbacks = unshare(self.spec, self.needs_network())?;
        let proc = system::fresh_proc()?;
        if proc.is_none() {
            let nested = matches!(userns::privilege(), Ok(Privilege::Namespace { .. }));
            if nested && !self.done.user_namespace {
                nested::enter()?;
                // The first ones belong to the outer user namespace.
                fallbacks = unshare(self.spec, self.needs_network())?;
            }
            fallbacks.push(system::no_proc(nested));
        }
        self.fallbacks = fallbacks;
        Ok(proc)
    }

    /// Mounts the root file system and everything in it, and makes it the only visible one.
    fn mount_root(&mut self, proc: Option<OwnedFd>) -> StepResult<Root> {
        self.reach(Stage::Mounts)?;
        let prepared = mounts::prepare(self.spec)?;

        self.reach(Stage::Rootfs)?;
        let attributes = match self.spec.security {
            Security::Sandbox => NODEV,
            Security::Insecure => MountAttrFlags::empty(),
        };
        let mounted = rootfs::mount(&self.spec.rootfs, &targets(&prepared), attributes)?;
        if !mounted.created.is_empty() {
            self.send(&Message::Created(mounted.created))?;
        }
        let root = mounted.root;

        self.reach(Stage::SystemMounts)?;
        system::mount(&root, self.spec, proc, self.orders.terminal, &mut self.fallbacks)?;

        self.reach(Stage::Mounts)?;
        mounts::attach(&root, prepared)?;
        if let Some(authorities) = &self.spec.authorities {
            mounts::attach(&root, authorities::mounts(&root, authorities))?;
            if let Some(path) = authorities::keystore(&root, &self.spec.env) {
                self.fallbacks.push(Fallback::new(Feature::Keystore(path), "it is no bundle"));
            }
        }

        self.reach(Stage::Pivot)?;
        pivot(&root)?;
        Ok(root)
    }

    /// Sets up network, user, working directory and streams, still as root.
    fn enter_root(&mut self, root: Root) -> StepResult<Entered> {
        self.reach(Stage::Network)?;
        if self.needs_network()
            && let Err(e) = sys::loopback_up()
        {
            self.fallbacks.push(Fallback::new(Feature::Loopback, e));
        }
        for fallback in std::mem::take(&mut self.fallbacks) {
            self.send(&Message::Fallback(fallback))?;
        }

        self.reach(Stage::User)?;
        let identity = user::resolve(&root, &self.spec.user)?;
        enter_directory(&root, &self.spec.cwd)?;
        let env = environment(self.spec, &identity.home);
        if self.orders.terminal {
            let outer = terminal::make(&identity)?;
            let sent = self.wire.send_with(&Message::Terminal, outer.as_fd());
            sent.context(|| "send the terminal to kiln".to_owned())?;
        }
        give_streams(&identity)?;
        Ok(Entered { identity, env })
    }

    /// From here on, calls that change files stop until kiln has replied.
    fn watch_files(&self) -> StepResult<()> {
        let Some(scope) = self.orders.watch else { return Ok(()) };
        match supervise::install_file_filter(scope) {
            Ok(listener) => {
                let sent = self.wire.send_with(&Message::FileListener, listener.as_fd());
                sent.context(|| "send the listener to kiln".to_owned())
            }
            Err(e) => self.send(&Message::Fallback(Fallback::new(Feature::FileWatch, e))),
        }
    }

    /// Applies resource limits, then user, capabilities and the system call filter.
    fn confine(&mut self, entered: &Entered, limits: Limits) -> StepResult<()> {
        // No file is opened after this: the requested limit of open files may be very low.
        self.reach(Stage::Limits)?;
        confine::limit(&self.spec.rlimits)?;

        self.reach(Stage::Confine)?;
        let spec = self.spec;
        let listener = confine::confine(&entered.identity, &spec.extra_groups, spec.security, limits)?;
        if let Some(listener) = listener {
            let sent = self.status.send_fd(listener.as_fd());
            sent.context(|| "send the listener to the warden".to_owned())?;
        }
        // Changing the user cleared the signal.
        die_with_parent().context(|| "set the parent-death signal".to_owned())
    }

    fn become_command(&mut self, entered: &Entered) -> StepResult<Infallible> {
        self.reach(Stage::Exec)?;
        if !self.spec.pid_one {
            reaper::fork_command(self.status.as_fd())?;
        }
        confine::limit_processes(&self.spec.rlimits)?;
        if self.orders.terminal {
            terminal::control()?;
        }
        sys::unblock_signals();
        Err(exec::exec(&self.spec.argv, &entered.env))
    }

    /// Whether init creates the network namespace.
    fn needs_network(&self) -> bool {
        self.spec.network != Network::Host && !self.done.network
    }

    fn reach(&mut self, stage: Stage) -> StepResult<()> {
        self.stage = stage;
        self.send(&Message::Reached(stage))
    }

    fn send(&self, message: &Message) -> StepResult<()> {
        self.wire.send(message).context(|| "report to kiln".to_owned())
    }
}

/// What is known of the command once its root is entered.
struct Entered {
    identity: Identity,
    env: Vec<(OsString, OsString)>,
}

fn own_session() -> StepResult<()> {
    die_with_parent().context(|| "set the parent-death signal".to_owned())?;
    name_process("kiln:init".as_ref());
    sys::default_signals();
    rustix::process::setsid().context(|| "create a session".to_owned())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Makes the command's user the owner of the pipes among the standard streams, so that it can open them again through
/// `/dev/stdout` (N-50). The pipes are kiln's own. Every user may open `/dev/null`, and a terminal has its owner.
fn give_streams(identity: &Identity) -> StepResult<()> {
    if identity.uid == 0 {
        return Ok(());
    }
    let owner = rustix::fs::Uid::from_raw(identity.uid);
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [input.as_fd(), output.as_fd(), errors.as_fd()] {
        let stat = rustix::fs::fstat(stream).context(|| "stat the standard streams".to_owned())?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo {
            match rustix::fs::fchown(stream, Some(owner), None) {
                // The id is not mapped; setting the user will report it.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(Problem::host("change the owner of the standard streams", &e.into())),
            }
        }
    }
    Ok(())
}

/// Enters new namespaces. Those that isolate are required; a UTS and a cgroup namespace are left out if the host
/// refuses them (N-51).
fn unshare(spec: &Spec, network: bool) -> StepResult<Vec<Fallback>> {
    let mut fallbacks = Vec::new();
    let mut needed = UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    if network {
        needed |= UnshareFlags::NEWNET;
    }
    let mut optional = UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    // With every capability a command could rename the host.
    if spec.security == Security::Insecure {
        (needed, optional) = (needed | UnshareFlags::NEWUTS, UnshareFlags::NEWCGROUP);
    }
    let mut own_name = true;
    if sys::unshare(needed | optional).is_err() {
        sys::unshare(needed).context(|| "create namespaces".to_owned())?;
        for (flag, feature) in
            [(UnshareFlags::NEWUTS, Feature::UtsNamespace), (UnshareFlags::NEWCGROUP, Feature::CgroupNamespace)]
        {
            if optional.contains(flag)
                && let Err(e) = sys::unshare(flag)
            {
                fallbacks.push(Fallback::new(feature, e));
                own_name &= flag != UnshareFlags::NEWUTS;
            }
        }
    }
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).context(|| "make all mounts private".to_owned())?;
    if !own_name {
        return Ok(fallbacks);
    }
    match rustix::system::sethostname(spec.hostname.as_bytes()) {
        Err(e @ (rustix::io::Errno::PERM | rustix::io::Errno::NOSYS)) => {
            fallbacks.push(Fallback::new(Feature::HostName(spec.hostname.clone()), std::io::Error::from(e)));
        }
        set => {
            set.context(|| format!("set the host name {:?}", spec.hostname)).map_err(Problem::requested)?;
        }
    }
    Ok(fallbacks)
}

/// All mount targets, in mount order.
fn targets(prepared: &[mounts::Prepared]) -> Vec<Target> {
    let system = ["/proc", "/sys", "/dev"].map(|path| Target { path: path.into(), kind: Kind::Dir });
    let asked = prepared.iter().map(|one| Target { path: one.target.path.clone(), kind: one.target.kind });
    system.into_iter().chain(asked).collect()
}

/// Makes `root` the only visible tree: pivot_root stacks the old root below it, which is then detached (S-72).
fn pivot(root: &Root) -> StepResult<()> {
    rustix::process::fchdir(root.as_fd()).context(|| "enter the root".to_owned())?;
    rustix::process::pivot_root(".", ".").context(|| "switch to the new root (pivot_root)".to_owned())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "unmount the host's tree".to_owned())?;
    rustix::process::chdir("/").context(|| "enter the root".to_owned())
}

/// Creates and enters the working directory. Magic links such as `/proc/self/fd/N` are not followed (S-1).
fn enter_directory(root: &Root, cwd: &Path) -> StepResult<()> {
    let action = || format!("enter working directory {}", cwd.display());
    if !cwd.is_absolute() {
        return Err(Problem::request(format!("working directory {} is not absolute", cwd.display())));
    }
    let dir = match root.open_at(cwd.as_os_str(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        Ok(dir) => dir,
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            if let Some(names) = stubs::missing(root, cwd)? {
                stubs::create_in_place(root, &names, Kind::Dir)
                    .context(|| format!("create working directory {}", cwd.display()))
                    .map_err(Problem::requested)?;
            }
            root.open_at(cwd.as_os_str(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .context(action)
                .map_err(Problem::requested)?
        }
        Err(e) => return Err(Problem::host(action(), &e).requested()),
    };
    rustix::process::fchdir(&dir).context(action)?;
    // The kernel prefixes "(unreachable)" if it lies outside the root.
    let here = rustix::process::getcwd(Vec::new()).context(action)?;
    if here.to_bytes().first() != Some(&b'/') {
        return Err(Problem::request(format!("working directory {} lies outside the root", cwd.display())));
    }
    Ok(())
}

/// The environment of the command.
fn environment(spec: &Spec, home: &str) -> Vec<(OsString, OsString)> {
    let mut env = spec.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push((OsString::from("HOME"), OsString::from(home)));
    }
    if spec.authorities.is_some() {
        authorities::add_variables(&mut env);
    }
    env
}
