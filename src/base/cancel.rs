//! A flag that stops everything that looks at it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Shared by all who start commands in one build or read for it; set once, never unset. Waiting on it costs nothing: it
/// is an fd; looking at it costs nothing either.
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

    /// Sets it: every running command's whole process tree is killed, and none starts any more.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Release);
        // Only a counter at its maximum refuses, and then it is set already.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// It was set.
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Ok: it is not set. Err: `ECANCELED`, as of a read that was given up.
    pub fn check(&self) -> io::Result<()> {
        if self.is_cancelled() { Err(Errno::CANCELED.into()) } else { Ok(()) }
    }
}

impl AsFd for Cancel {
    /// Readable once it is set; never read from.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

/// A reader that fails once the flag is set.
#[derive(Debug)]
pub struct Cancellable<R> {
    inner: R,
    stop: Cancel,
}

impl<R> Cancellable<R> {
    /// `inner`, as long as `stop` is not set.
    pub fn new(inner: R, stop: &Cancel) -> Self {
        Self { inner, stop: stop.clone() }
    }
}

impl<R: Read> Read for Cancellable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.inner.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_ends_in_the_middle() {
        let stop = Cancel::new().unwrap();
        let mut reader = Cancellable::new(io::repeat(7), &stop);
        let mut buffer = [0; 9];
        reader.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, [7; 9]);
        assert!(!stop.is_cancelled());
        stop.cancel();
        assert!(stop.is_cancelled());
        assert_eq!(reader.read(&mut buffer).unwrap_err().raw_os_error(), Some(Errno::CANCELED.raw_os_error()));
    }
}
