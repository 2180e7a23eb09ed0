//! The process between kiln and pid 1.
//!
//! **Holds.** It is a fresh, single-threaded copy of kiln that owns one pid namespace: it forks init into it, waits, and
//! reports the end. If kiln cancels or dies, its end of the socket closes; the warden then kills pid 1, and the kernel
//! everything else in the namespace. If the warden dies, pid 1's parent-death signal does the same.
//! **Order.** Every descriptor is marked close-on-exec before anything else: the command gets 0, 1 and 2 (S-1).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions};
use rustix::thread::UnshareFlags;

use super::message::{Message, Stage};
use super::problem::{Doing, Step};
use super::spec::{Exit, Spec};
use super::sys::{self, Fork};
use super::wire::Wire;
use super::{init, launch};

/// Runs one command as [`Spec`] says; the exit code matters to nobody.
pub(super) fn main() -> u8 {
    let Ok(wire) = own_wire() else { return 125 };
    match supervise(&wire) {
        Ok(()) => 0,
        Err(problem) => {
            let _ = wire.send(&Message::Failed(problem.at(Stage::Start)));
            125
        }
    }
}

/// The socket kiln gave us as standard input, moved out of the way.
fn own_wire() -> io::Result<Wire> {
    sys::close_range_on_exec(3)?;
    let wire = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    Ok(Wire::new(wire))
}

fn supervise(wire: &Wire) -> Step<()> {
    launch::name_process("kiln:warden".as_ref());
    let (has_stdin, spec): (bool, Spec) = wire.receive().doing(|| "read the command from kiln".to_owned())?;
    let stdin = if has_stdin {
        wire.receive_fd().doing(|| "take standard input from kiln".to_owned())?
    } else {
        null().doing(|| "open /dev/null".to_owned())?
    };
    nix::unistd::dup2_stdin(&stdin).doing(|| "set standard input".to_owned())?;
    drop(stdin);
    sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".to_owned())?;
    let pid = match sys::fork().doing(|| "fork".to_owned())? {
        Fork::Child => init::run(&spec, wire),
        Fork::Parent(pid) => pid,
    };
    drop(spec);
    // Only the command and its children may hold the output open.
    let null = null().doing(|| "open /dev/null".to_owned())?;
    nix::unistd::dup2_stdin(&null)
        .and_then(|()| nix::unistd::dup2_stdout(&null))
        .and_then(|()| nix::unistd::dup2_stderr(&null))
        .doing(|| "let go of the output".to_owned())?;
    let exit = wait(wire.as_fd(), pid).doing(|| "wait for the command".to_owned())?;
    let _ = wire.send(&Message::Ended(exit));
    Ok(())
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Waits for pid 1; kills it when kiln's end of the socket closes or says anything.
fn wait(wire: BorrowedFd<'_>, pid: Pid) -> io::Result<Exit> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut killed = false;
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if !killed {
            fds.push(PollFd::from_borrowed_fd(wire, PollFlags::IN | PollFlags::RDHUP));
        }
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !fds[0].revents().is_empty() {
            break;
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            killed = true;
            // Gone already is as good.
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
    let status = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    })
}
