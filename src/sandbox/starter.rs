//! The process that forks wardens: `kiln:starter`.
//!
//! **Holds.** A single-threaded copy of this program, one per [`Launcher`](super::Launcher) from its first command on.
//! It is executed once; each command then costs a fork of a small process instead of an execution of a large program.
//! It has an empty environment, the root directory, no descriptor but its socket, and it never reads a spec: the warden
//! does, after the fork.
//! **Order.** For each command kiln sends the warden's socket and gets a descriptor of the warden's process. The starter
//! ends when kiln closes its end or dies. If the starter dies, its wardens go on, and the next command starts another.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{PidfdFlags, Signal, WaitOptions};

use super::process::{name_process, null};
use super::sys::{self, Fork};
use super::warden;
use super::wire::Wire;

/// First argument of the starter.
pub(super) const ARGUMENT: &str = "@kiln-starter";

/// kiln's side of a starter.
#[derive(Debug)]
pub(super) struct Starter {
    /// Closed before the starter is waited for.
    wire: Option<Wire>,
    child: Child,
}

impl Starter {
    /// Ok: a starter from the kiln at `program` runs.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let (ours, theirs) = Wire::pair()?;
        let mut command = Command::new(program);
        command.arg0("kiln").arg(ARGUMENT).env_clear().current_dir("/");
        command.stdin(Stdio::from(theirs.into_socket())).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { wire: Some(ours), child: command.spawn()? })
    }

    /// Ok: a warden runs that reads its orders from the other end of `socket`.
    pub(super) fn fork(&self, socket: &Wire) -> io::Result<Warden> {
        let wire = self.wire.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        wire.send_fd(socket.as_fd())?;
        let mut errno = [0];
        match wire.read(&mut errno)? {
            (_, Some(pidfd)) => Ok(Warden { pidfd }),
            (0, None) => Err(io::ErrorKind::BrokenPipe.into()),
            (_, None) => Err(io::Error::from_raw_os_error(errno[0].into())),
        }
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.wire = None;
        let _ = self.child.wait();
    }
}

/// kiln's side of a warden, which is not its child.
#[derive(Debug)]
pub(super) struct Warden {
    pidfd: OwnedFd,
}

impl Warden {
    /// Kills the warden, and init with it.
    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL)?)
    }

    /// Ok: the warden has ended.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
        Ok(())
    }
}

/// Forks wardens until kiln closes its end. kiln ignores the exit code.
pub(super) fn main() -> u8 {
    let Ok(wire) = own_wire() else { return 125 };
    name_process(OsStr::new("kiln:starter"));
    // A terminal signals the whole process group; kiln forwards the signals that are meant for the command.
    sys::block_signals();
    while let Ok(socket) = wire.receive_fd() {
        let answered = match sys::fork() {
            Ok(Fork::Child) => {
                drop(wire);
                return warden::main(&Wire::new(socket));
            }
            // It has not been waited for, so this is its pid.
            Ok(Fork::Parent(pid)) => rustix::process::pidfd_open(pid, PidfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(|pidfd| wire.send_fd(pidfd.as_fd())),
            Err(e) => refuse(&wire, &e),
        };
        if answered.is_err() {
            break;
        }
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
    0
}

/// The socket that kiln passed as standard input, moved to another descriptor.
fn own_wire() -> io::Result<Wire> {
    sys::close_range_on_exec(3)?;
    let wire = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    nix::unistd::dup2_stdin(null()?)?;
    Ok(Wire::new(wire))
}

/// Sends an error number, which is below 256.
fn refuse(wire: &Wire, why: &io::Error) -> io::Result<()> {
    let errno = why.raw_os_error().and_then(|errno| u8::try_from(errno).ok()).unwrap_or(libc::EAGAIN as u8);
    rustix::io::write(wire, &[errno])?;
    Ok(())
}
