//! Root without being root: kiln run again as root of a user namespace.
//!
//! **Holds.** [`enter`] starts the same command line once more, in a fresh process, as uid 0 of a new user and mount
//! namespace whose other ids are the user's subordinate ids (`newuidmap`, `newgidmap`), or with the one id the user has
//! when there are none. It stands in for that process: signals and the exit status pass through, the terminal is shared.
//! **Order.** The signals are blocked before the start, so that a Ctrl-C at any moment reaches the process inside, which
//! ends the work properly; if this process is killed outright, the one inside dies with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{SigSet, Signal as Name};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Gid, Pid, PidfdFlags, Signal, Uid};
use rustix::thread::{CapabilitySet, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::launch::{self, Reentry};
use super::message::{Blame, Failure};
use super::obstacle::Obstacle;
use super::seccomp::Limits;
use super::wire::Wire;
use super::{idmap, sys};
use crate::base::fs;

/// Why no user namespace could be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}{}", obstacle.map(|found| format!(": {found}")).unwrap_or_default())]
pub struct Error {
    /// What was being done.
    pub what: String,
    /// The system's answer.
    pub source: io::Error,
    /// What stands in the way.
    pub obstacle: Option<Obstacle>,
    /// What else would help.
    advice: Option<&'static str>,
}

impl Error {
    /// What would help.
    pub fn hint(&self) -> Option<&'static str> {
        self.obstacle.map(Obstacle::hint).or(self.advice)
    }
}

/// Where this process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Root of the host, with the capabilities that namespaces need.
    Root,
    /// Root of a user namespace that has this many ids.
    Namespace {
        /// 1 = nothing can belong to anybody else.
        ids: u64,
    },
    /// A plain user, who has to [`enter`] first; so does the root of a container that keeps `CAP_SYS_ADMIN` back.
    Plain,
}

/// Where this process stands.
pub fn standing() -> Result<Standing, Error> {
    let admin = rustix::thread::capabilities(None).map_err(|e| error("read the capabilities", e))?;
    if !rustix::process::geteuid().is_root() || !admin.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(Standing::Plain);
    }
    let ids = idmap::count(&read("/proc/self/uid_map")?);
    Ok(if ids == u64::from(u32::MAX) { Standing::Root } else { Standing::Namespace { ids } })
}

/// Lets this thread and what it starts mount: somebody else's user namespace (`unshare -r`) may have been left among the
/// mounts of the host, where its root may not. To be called as root of a namespace. Ok: mounting is allowed, or would be
/// refused in every other way too.
pub fn own_mounts() -> Result<(), Error> {
    match rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(rustix::io::Errno::PERM) => {
            sys::unshare(UnshareFlags::NEWNS).map_err(|e| error("make a mount namespace", e))
        }
        _ => Ok(()),
    }
}

/// Who this process was before it [`enter`]ed a user namespace, if it did.
pub fn entered_by() -> Option<u32> {
    FORMER.get().copied()
}

/// Why this process has a single id, and what would help: to be announced (style: fallbacks are).
pub fn single_id_reason() -> Option<String> {
    if let Some(reason) = REASON.get() {
        return Some(reason.clone());
    }
    match standing() {
        Ok(Standing::Namespace { ids: 1 }) => Some(
            "the user namespace that kiln was started in has one (start kiln outside of it, or make it with unshare \
             --map-root-user --map-auto)"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What the user namespace of this process has.
pub(super) fn limits() -> Limits {
    let first_unmapped = |file: &str| u32::try_from(idmap::count(&text(file))).unwrap_or(u32::MAX);
    Limits {
        ids: first_unmapped("/proc/self/uid_map").min(first_unmapped("/proc/self/gid_map")),
        groups: text("/proc/self/setgroups").trim() != "deny",
    }
}

/// Adds to a failure what only this process knows: why ids are missing, and that a filter around kiln refuses calls.
pub(super) fn explain(mut failure: Failure) -> Failure {
    if failure.ids
        && let Some(reason) = single_id_reason()
    {
        failure.hint = Some(format!("an id is not available here: {reason}"));
    } else if failure.ids && failure.errno != Some(libc::EPERM) {
        failure.hint = Some(
            "an id is not mapped in kiln's user namespace: give the user a range that covers it in /etc/subuid and \
             /etc/subgid"
                .to_owned(),
        );
    }
    if failure.hint.is_none() && failure.blame == Blame::Host {
        let obstacle = failure.errno.and_then(Obstacle::to_call);
        failure.hint = obstacle.map(|found| found.hint().to_owned());
    }
    failure
}

/// Why this user, outside any namespace, has no subordinate ids to map.
pub fn subordinate_problem() -> Option<String> {
    let uid = rustix::process::getuid();
    if uid.is_root() { None } else { Maps::of(uid, rustix::process::getgid()).err() }
}

static FORMER: OnceLock<u32> = OnceLock::new();
static REASON: OnceLock<String> = OnceLock::new();
static HANDED: OnceLock<String> = OnceLock::new();

/// What the two processes say while the namespace is made.
#[derive(Debug, Serialize, Deserialize)]
enum Talk {
    /// Inside: the namespace exists and has no ids yet.
    Ready,
    /// Inside: it could not be made.
    Refused(i32),
    /// Outside: its ids are written; the reason if there is only one; what the process outside hands over.
    Mapped(Option<String>, String),
}

/// What the process outside handed over to this one, if it [`enter`]ed a user namespace.
pub fn handed_over() -> Option<&'static str> {
    HANDED.get().map(String::as_str)
}

/// Runs `argv` (program name first) as kiln again, as root of a user namespace, with `env` added to the environment and
/// `handed` [`handed_over`] to it, which stays in memory.
/// Returns its exit code (128+n if a signal ended it) when it has ended. To be called while no other thread of this
/// process has the usual signals unblocked.
pub fn enter(argv: &[OsString], env: &[(OsString, OsString)], handed: &str) -> Result<u8, Error> {
    let signals = forwarded();
    let before = SigSet::thread_get_mask().map_err(|e| error("read the signal mask", e))?;
    signals.thread_block().map_err(|e| error("block signals", e))?;
    let code = start_and_wait(Again { argv, env, handed }, &signals);
    let _ = before.thread_set_mask();
    code
}

fn forwarded() -> SigSet {
    let mut set = SigSet::empty();
    let all = [Name::SIGINT, Name::SIGTERM, Name::SIGHUP, Name::SIGQUIT, Name::SIGUSR1, Name::SIGUSR2, Name::SIGWINCH];
    for signal in all {
        set.add(signal);
    }
    set
}

/// What kiln is started again with.
#[derive(Clone, Copy)]
struct Again<'a> {
    argv: &'a [OsString],
    env: &'a [(OsString, OsString)],
    handed: &'a str,
}

fn start_and_wait(again: Again<'_>, signals: &SigSet) -> Result<u8, Error> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(signals, flags).map_err(|e| error("watch signals", e))?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let ids = match uid.is_root() {
        true => Ok(Ids::Own),
        false => Maps::of(uid, gid).map(Ids::Ranges),
    };
    let mut child = match ids {
        Ok(ids) => match start(again, &ids) {
            Ok(child) => child,
            Err(Failed::Maps(reason)) => start(again, &Ids::Single(reason)).map_err(Failed::into_error)?,
            Err(Failed::Namespace(error)) => return Err(error),
        },
        Err(reason) => start(again, &Ids::Single(reason)).map_err(Failed::into_error)?,
    };
    stand_in(&mut child, &signals)
}

/// The ids of a new namespace.
enum Ids {
    /// The user and its subordinate ids.
    Ranges(Maps),
    /// All that this root has, each as itself.
    Own,
    /// The user alone, because.
    Single(String),
}

struct Maps {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
    uids: Vec<idmap::Range>,
    gids: Vec<idmap::Range>,
}

impl Maps {
    /// What this user may map, or what is missing for that.
    fn of(uid: Uid, gid: Gid) -> Result<Self, String> {
        let newuidmap = helper("newuidmap")?;
        let newgidmap = helper("newgidmap")?;
        let passwd = text("/etc/passwd");
        let name = idmap::name_of(&passwd, uid.as_raw());
        let find = |file: &str| {
            let ranges = idmap::subordinate(&text(file), name, uid.as_raw());
            let shown = name.map_or_else(|| uid.as_raw().to_string(), str::to_owned);
            if ranges.is_empty() {
                // One range that is free in both files: the two belong together.
                let first = idmap::first_free(&[text("/etc/subuid"), text("/etc/subgid")]);
                let range = format!("{first}-{}", first + idmap::ENOUGH - 1);
                let add = match name {
                    Some(name) => format!("usermod --add-subuids {range} --add-subgids {range} {name}"),
                    // usermod wants a name.
                    None => format!("echo {shown}:{first}:{} | tee -a /etc/subuid /etc/subgid", idmap::ENOUGH),
                };
                return Err(format!("{file} has no line for {shown} (as root: {add})"));
            }
            Ok(ranges)
        };
        Ok(Self {
            newuidmap,
            newgidmap,
            uids: idmap::map(uid.as_raw(), &find("/etc/subuid")?),
            gids: idmap::map(gid.as_raw(), &find("/etc/subgid")?),
        })
    }

    /// Gives the namespace of `pid` its ids.
    fn write(&self, pid: u32) -> Result<(), String> {
        let run = |program: &Path, map: &[idmap::Range]| {
            let mut command = Command::new(program);
            command.arg(pid.to_string()).args(idmap::arguments(map)).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::piped()).spawn().map_err(|e| format!("{}: {e}", program.display()))
        };
        // Side by side: they are two processes that wait for nothing but the kernel.
        let (uids, gids) = (run(&self.newuidmap, &self.uids)?, run(&self.newgidmap, &self.gids)?);
        for (program, child) in [(&self.newuidmap, uids), (&self.newgidmap, gids)] {
            let out = child.wait_with_output().map_err(|e| format!("{}: {e}", program.display()))?;
            if !out.status.success() {
                let said = String::from_utf8_lossy(&out.stderr);
                let also = powerless(program).map(|why| format!("; {why}")).unwrap_or_default();
                return Err(format!("{} refused: {}{also}", program.display(), said.trim()));
            }
        }
        Ok(())
    }
}

/// Why a helper has none of the rights that the ids of a namespace need.
fn powerless(program: &Path) -> Option<String> {
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Some(
            "no_new_privs is set, with which it has no rights of its own: leave out NoNewPrivileges= of systemd, \
             no-new-privileges of docker, or set allowPrivilegeEscalation: true in a pod"
                .to_owned(),
        );
    }
    use std::os::unix::fs::MetadataExt as _;
    let setuid = std::fs::metadata(program).is_ok_and(|found| found.mode() & 0o4000 != 0);
    let capable = rustix::fs::getxattr(program, c"security.capability", &mut [0u8; 64][..]).is_ok();
    (!setuid && !capable)
        .then(|| format!("it is not setuid and has no capabilities (as root: chmod u+s {})", program.display()))
}

/// Set-uid helpers live in one of these; a search path of the user's making would be the wrong place to look.
const HELPER_DIRS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/wrappers/bin"];

fn helper(name: &str) -> Result<PathBuf, String> {
    let found = HELPER_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    found.ok_or_else(|| format!("{name} is not installed (package uidmap or shadow-utils)"))
}

fn text(path: &str) -> String {
    fs::read_opt(Path::new(path)).ok().flatten().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}

enum Failed {
    /// The namespace exists, its ids could not be written.
    Maps(String),
    /// There is no namespace.
    Namespace(Error),
}

impl Failed {
    fn into_error(self) -> Error {
        match self {
            Failed::Namespace(error) => error,
            Failed::Maps(reason) => {
                let what = format!("give a user namespace its ids ({reason})");
                Error { what, source: io::ErrorKind::PermissionDenied.into(), obstacle: None, advice: None }
            }
        }
    }
}

/// Starts the process, gives its namespace ids, and lets it go on.
fn start(again: Again<'_>, ids: &Ids) -> Result<Child, Failed> {
    let fail = |what: &'static str| move |e: io::Error| Failed::Namespace(error(what, e));
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)
        .map_err(fail("make a socket"))?;
    // Inherited by number: standard input belongs to the command. A process another thread starts in this very moment
    // would inherit it too, and lose it as soon as it closes what it does not know.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(io::Error::from)
        .map_err(fail("pass a socket on"))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("kiln").arg(launch::USERNS).arg(theirs.as_raw_fd().to_string()).args(again.argv);
    command.envs(again.env.iter().map(|(k, v)| (k, v)));
    let mut child = command.spawn().map_err(fail("start kiln again"))?;
    drop(theirs);
    let wire = Wire::new(ours);
    let outcome = give_ids(&wire, &child, ids, again.handed);
    if outcome.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome.map(|()| child)
}

fn give_ids(wire: &Wire, child: &Child, ids: &Ids, handed: &str) -> Result<(), Failed> {
    let said = wire.receive().map_err(|e| Failed::Namespace(error("start kiln in a user namespace", e)))?;
    if let Talk::Refused(errno) = said {
        return Err(Failed::Namespace(refused(errno)));
    }
    let reason = match ids {
        Ids::Ranges(maps) => {
            maps.write(child.id()).map_err(Failed::Maps)?;
            None
        }
        Ids::Own => {
            own(child.id()).map_err(Failed::Namespace)?;
            None
        }
        Ids::Single(reason) => {
            single(child.id()).map_err(Failed::Namespace)?;
            Some(reason.clone())
        }
    };
    wire.send(&Talk::Mapped(reason, handed.to_owned()))
        .map_err(|e| Failed::Namespace(error("let kiln go on in its user namespace", e)))
}

/// Maps every id to itself, which a root without `CAP_SYS_ADMIN` may still do.
fn own(pid: u32) -> Result<(), Error> {
    for file in ["uid_map", "gid_map"] {
        let map = idmap::lines(&idmap::identity(&text(&format!("/proc/self/{file}"))));
        write_map(&pid.to_string(), file, &map).map_err(|e| Error {
            what: format!("write {file} of a user namespace"),
            source: e,
            obstacle: None,
            advice: Some("root needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP for that: add what is missing"),
        })?;
    }
    Ok(())
}

/// Writes a map of the process that `/proc` calls `pid`.
pub(super) fn write_map(pid: &str, file: &str, content: &str) -> io::Result<()> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/{pid}/{file}"), flags, rustix::fs::Mode::empty())?;
    // In one piece, or the kernel takes none of it.
    rustix::io::write(&file, content.as_bytes())?;
    Ok(())
}

/// Maps the user alone. Groups cannot be set in such a namespace: the kernel wants that renounced first.
fn single(pid: u32) -> Result<(), Error> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    for (file, content) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        write_map(&pid.to_string(), file, &content).map_err(|e| Error {
            what: format!("write {file} of a user namespace"),
            source: e,
            obstacle: Obstacle::to_users(libc::EPERM),
            advice: None,
        })?;
    }
    Ok(())
}

/// Why `unshare(CLONE_NEWUSER)` said no.
fn refused(errno: i32) -> Error {
    let source = io::Error::from_raw_os_error(errno);
    Error { what: "make a user namespace".to_owned(), source, obstacle: Obstacle::to_users(errno), advice: None }
}

/// Passes signals to the child and waits for its end.
fn stand_in(child: &mut Child, signals: &SignalFd) -> Result<u8, Error> {
    use rustix::event::{PollFd, PollFlags};
    let pid = Pid::from_child(child);
    // Not SIGCHLD: a thread that does not block it takes it away from the signalfd, and the end is never seen.
    let end = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| error("watch kiln", e))?;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| error("wait for kiln in its user namespace", e))? {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(error("watch signals", e)),
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let number = info.ssi_signo as i32;
            // A terminal's Ctrl-C went to the whole foreground group, the child among it: passing it on would make two.
            let from_terminal =
                info.ssi_code == libc::SI_KERNEL && matches!(number, libc::SIGINT | libc::SIGQUIT | libc::SIGWINCH);
            if !from_terminal && let Some(signal) = Signal::from_named_raw(number) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }
}

fn error(what: &str, source: impl Into<io::Error>) -> Error {
    let source = source.into();
    let obstacle = source.raw_os_error().and_then(Obstacle::to_call);
    Error { what: what.to_owned(), source, obstacle, advice: None }
}

fn read(path: &str) -> Result<String, Error> {
    let bytes = fs::read(Path::new(path)).map_err(|e| error(&format!("read {path}"), e.source))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The other side: this process is the one started by [`enter`].
pub(super) fn inside(mut argv: Vec<OsString>) -> Reentry {
    // Blocked for the other side's sake.
    let _ = SigSet::empty().thread_set_mask();
    let number = argv.get(2).and_then(|arg| arg.to_str()).and_then(|arg| arg.parse().ok());
    let Some(socket) = number.and_then(sys::inherited_socket) else { return Reentry::Done(125) };
    match settle(&Wire::new(socket)) {
        Ok(()) => {
            argv.drain(..3);
            Reentry::Continue(argv)
        }
        Err(_) => Reentry::Done(125),
    }
}

fn settle(wire: &Wire) -> io::Result<()> {
    let former = rustix::process::getuid().as_raw();
    let namespaces = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    if let Err(e) = sys::unshare(namespaces) {
        return wire.send(&Talk::Refused(e.raw_os_error().unwrap_or(0))).and(Err(e));
    }
    wire.send(&Talk::Ready)?;
    let Talk::Mapped(reason, handed) = wire.receive()? else { return Err(io::ErrorKind::InvalidData.into()) };
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    if reason.is_none() {
        rustix::thread::set_thread_groups(&[gid])?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let _ = FORMER.set(former);
    let _ = HANDED.set(handed);
    if let Some(reason) = reason {
        let _ = REASON.set(reason);
    }
    // After the ids: changing them clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Started through a link: it would be called `exe`.
    launch::name_process("kiln".as_ref());
    Ok(())
}
