//! A flag that cancels the work of a build.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Shared by everything that runs or reads for one build; set once, never cleared. It is a file descriptor, so that it can
/// be polled.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug)]
struct Flag {
    set: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Flag { set: AtomicBool::new(false), event })))
    }

    /// Sets the flag: all processes of running commands are killed, and no command starts any more.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Release);
        // The write fails only if the counter is at its maximum: the flag is set then.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Ok: the flag is not set. Err: `ECANCELED`.
    pub fn check(&self) -> io::Result<()> {
        if self.is_cancelled() { Err(Errno::CANCELED.into()) } else { Ok(()) }
    }
}

impl AsFd for Cancel {
    /// Readable once the flag is set. Do not read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_fails_once_flag_is_set() {
        let stop = Cancel::new().unwrap();
        let shared = stop.clone();
        assert!(shared.check().is_ok() && !shared.is_cancelled());
        stop.cancel();
        assert!(shared.is_cancelled());
        assert_eq!(shared.check().unwrap_err().raw_os_error(), Some(Errno::CANCELED.raw_os_error()));
    }
}
