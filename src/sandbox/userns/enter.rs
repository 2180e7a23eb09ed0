//! Runs kiln again as root of a new user namespace.
//!
//! **Order.** Signals are blocked before the start, so that a Ctrl-C at any moment reaches the inner process, which
//! ends the work properly. If this process is killed, the inner one dies with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use nix::sys::signal::{SigSet, Signal as Name};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::error::Error;
use super::handshake::{ARGUMENT, Handshake};
use super::maps::{self, Ranges};
use super::reason::SingleIdReason;
use crate::sandbox::wire::Wire;

/// Runs `argv` (program name first) as kiln again, as root of a user namespace, with `env` added to the environment.
/// The inner process gets `payload`, which is never written to disk. Returns its exit code when it has ended: 128+n if
/// signal n killed it. All other threads of this process must have the forwarded signals blocked.
pub(crate) fn enter(argv: &[OsString], env: &[(OsString, OsString)], payload: &str) -> Result<u8, Error> {
    let signals = forwarded();
    let before = SigSet::thread_get_mask().map_err(|e| Error::new("read the signal mask", e))?;
    signals.thread_block().map_err(|e| Error::new("block signals", e))?;
    let code = start_and_wait(Program { argv, env, payload }, &signals);
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

/// How kiln is started again.
#[derive(Clone, Copy)]
struct Program<'a> {
    argv: &'a [OsString],
    env: &'a [(OsString, OsString)],
    payload: &'a str,
}

/// The ids of a new namespace.
enum Ids {
    /// The user and its subordinate ids.
    Ranges(Ranges),
    /// All ids that this root has, each mapped to itself.
    Identity,
    /// The user alone, for this reason.
    Single(SingleIdReason),
}

enum StartError {
    /// The namespace exists, but its id maps could not be written.
    Maps(SingleIdReason),
    /// There is no namespace.
    Namespace(Error),
}

fn start_and_wait(program: Program<'_>, signals: &SigSet) -> Result<u8, Error> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(signals, flags).map_err(|e| Error::new("watch signals", e))?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let ids = match uid.is_root() {
        true => Ids::Identity,
        false => Ranges::of(uid, gid).map_or_else(Ids::Single, Ids::Ranges),
    };
    let started = match start(program, &ids) {
        Err(StartError::Maps(reason)) => start(program, &Ids::Single(reason)),
        other => other,
    };
    let mut child = started.map_err(|error| match error {
        StartError::Namespace(error) => error,
        // A single id needs no helper.
        StartError::Maps(_) => Error::new("write the id maps of a user namespace", io::ErrorKind::PermissionDenied),
    })?;
    forward_and_wait(&mut child, &signals)
}

/// Starts the process, writes the id maps of its namespace, and lets it continue.
fn start(program: Program<'_>, ids: &Ids) -> Result<Child, StartError> {
    let fail = |what: &'static str| move |e: io::Error| StartError::Namespace(Error::new(what, e));
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)
        .map_err(fail("create a socket"))?;
    // Inherited by number, because standard input belongs to the command. A process that another thread starts at this
    // moment inherits it too; kiln's own children close descriptors they do not know.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(io::Error::from)
        .map_err(fail("pass a socket to kiln in a user namespace"))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("kiln").arg(ARGUMENT).arg(theirs.as_raw_fd().to_string()).args(program.argv);
    command.envs(program.env.iter().map(|(k, v)| (k, v)));
    let mut child = command.spawn().map_err(fail("start another kiln process"))?;
    drop(theirs);
    let wire = Wire::new(ours);
    let outcome = give_ids(&wire, &child, ids, program.payload);
    if outcome.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome.map(|()| child)
}

fn give_ids(wire: &Wire, child: &Child, ids: &Ids, payload: &str) -> Result<(), StartError> {
    let first = wire.receive().map_err(|e| StartError::Namespace(Error::new("start kiln in a user namespace", e)))?;
    if let Handshake::Refused(errno) = first {
        return Err(StartError::Namespace(Error::of_unshare(errno)));
    }
    let single_id = match ids {
        Ids::Ranges(ranges) => {
            ranges.write(child.id()).map_err(StartError::Maps)?;
            None
        }
        Ids::Identity => {
            maps::write_identity(child.id()).map_err(StartError::Namespace)?;
            None
        }
        Ids::Single(reason) => {
            maps::write_single(child.id()).map_err(StartError::Namespace)?;
            Some(reason.clone())
        }
    };
    wire.send(&Handshake::Mapped { single_id, payload: payload.to_owned() })
        .map_err(|e| StartError::Namespace(Error::new("send the id maps to kiln in its user namespace", e)))
}

/// Forwards signals to the child and waits for its end.
fn forward_and_wait(child: &mut Child, signals: &SignalFd) -> Result<u8, Error> {
    let pid = Pid::from_child(child);
    // Not SIGCHLD: a thread that does not block it takes it from the signalfd, and the end would be missed.
    let end = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| Error::new("watch kiln", e))?;
    loop {
        let ended = child.try_wait().map_err(|e| Error::new("wait for kiln in its user namespace", e))?;
        if let Some(status) = ended {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::new("watch signals", e)),
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let number = info.ssi_signo as i32;
            // A terminal sends Ctrl-C to the whole foreground group, the child included: forwarding would repeat it.
            let from_terminal =
                info.ssi_code == libc::SI_KERNEL && matches!(number, libc::SIGINT | libc::SIGQUIT | libc::SIGWINCH);
            if !from_terminal && let Some(signal) = Signal::from_named_raw(number) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }
}
