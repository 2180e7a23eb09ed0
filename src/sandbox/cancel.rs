//! A flag that stops everything that looks at it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

/// Shared by all who start commands in one build; set once, never unset. Waiting on it costs nothing: it is an fd.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<OwnedFd>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> io::Result<Self> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Sets it: every running command's whole process tree is killed, and none starts any more.
    pub fn cancel(&self) {
        // Only a counter at its maximum refuses, and then it is set already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// It was set.
    pub fn is_cancelled(&self) -> bool {
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1))
    }
}

impl AsFd for Cancel {
    /// Readable once it is set; never read from.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
