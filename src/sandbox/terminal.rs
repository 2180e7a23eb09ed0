//! A terminal for the command, connected to the caller's.
//!
//! **Holds.** The pair is created in the sandbox, in the command's own `/dev/pts` (S-73): the command never holds the
//! caller's terminal, where it could fake input. The other end is sent to kiln. The caller's terminal is in raw mode
//! while the command runs, so that keys like Ctrl-C reach the command; it is restored however the run ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

use super::pipes;
use super::problem::{Context, StepResult};
use super::user::Identity;

/// Creates a terminal, connects the standard streams of this process to it and returns its other end. To be called in
/// the final root, as root.
pub(super) fn make(identity: &Identity) -> StepResult<OwnedFd> {
    let action = || "create a terminal".to_owned();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = rustix::pty::openpt(flags).context(action)?;
    rustix::pty::unlockpt(&outer).context(action)?;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).context(action)?;
    let owner = rustix::fs::Uid::from_raw(identity.uid);
    rustix::fs::fchown(&inner, Some(owner), None).context(|| "change the owner of the terminal".to_owned())?;
    nix::unistd::dup2_stdin(&inner)
        .and_then(|()| nix::unistd::dup2_stdout(&inner))
        .and_then(|()| nix::unistd::dup2_stderr(&inner))
        .context(|| "connect the standard streams to the terminal".to_owned())?;
    Ok(outer)
}

/// Makes the terminal on standard input the controlling terminal of this session, which has none yet.
pub(super) fn control() -> StepResult<()> {
    rustix::process::ioctl_tiocsctty(io::stdin()).context(|| "set the controlling terminal".to_owned())
}

/// Standard input in raw mode; restored when dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Copies bytes between the caller's terminal and the command's.
pub(super) struct Relay {
    outer: OwnedFd,
    /// Typed bytes that the command's terminal has not taken yet; at most those of one read.
    typed: Vec<u8>,
    keyboard: bool,
    _raw: Option<Raw>,
}

impl Relay {
    /// Connects the caller's standard streams to `outer`; standard input only if `input`.
    pub(super) fn new(outer: OwnedFd, input: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&outer, true)?;
        let relay =
            Self { outer, typed: Vec::new(), keyboard: input, _raw: if input { Some(Raw::new()?) } else { None } };
        relay.resize();
        Ok(relay)
    }

    /// Gives the command's terminal the size of the caller's.
    pub(super) fn resize(&self) {
        // Not every terminal has a size.
        if let Ok(size) = rustix::termios::tcgetwinsize(io::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.outer, size);
        }
    }

    /// The command's terminal, and the events to wait for.
    pub(super) fn screen(&self) -> (&OwnedFd, PollFlags) {
        let typed = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        (&self.outer, PollFlags::IN | typed)
    }

    /// Whether typed bytes can be taken now.
    pub(super) fn wants_keys(&self) -> bool {
        self.keyboard && self.typed.is_empty()
    }

    /// Reads typed bytes.
    pub(super) fn keys(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match rustix::io::read(io::stdin(), &mut *buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => self.keyboard = false,
            Ok(n) => self.typed.extend_from_slice(&buffer[..n]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Copies whatever can be copied without waiting. `false`: the command's side is closed.
    pub(super) fn pass_on(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        if !self.typed.is_empty() {
            match rustix::io::write(&self.outer, &self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::IO) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        match rustix::io::read(&self.outer, &mut *buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(false),
            Ok(n) => show(&buffer[..n]).map(|()| true),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// Shows the rest of the command's output.
    pub(super) fn finish(mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.typed.clear();
        loop {
            match rustix::io::read(&self.outer, &mut *buffer) {
                Ok(0) | Err(rustix::io::Errno::IO | rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(n) => show(&buffer[..n])?,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn show(bytes: &[u8]) -> io::Result<()> {
    pipes::write_whole(io::stdout().as_fd(), bytes)
}
