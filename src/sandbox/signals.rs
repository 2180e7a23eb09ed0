//! Signals that are meant for a command.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::base::unfinished;

/// The signals that ask a process to do something, as opposed to those that say what became of it.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Keeps this process's signals for a command: while one runs they go there, otherwise they do what they always do,
/// after what is unfinished was removed.
#[derive(Debug)]
pub struct Signals {
    arrived: io::PipeReader,
    running: Arc<AtomicBool>,
}

impl Signals {
    /// For the rest of the process. To be called before other threads start: they inherit that signals are not theirs.
    pub fn keep() -> io::Result<Self> {
        let set: SigSet = PASSED_ON.into_iter().collect();
        set.thread_block()?;
        let (arrived, mut into) = io::pipe()?;
        let running = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&running);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Ok(signal) = set.wait() {
                let passed = seen.load(Ordering::Acquire) && into.write_all(&[signal as u8]).is_ok();
                if !passed && signal != Signal::SIGWINCH {
                    if signal != Signal::SIGQUIT {
                        unfinished::sweep();
                    }
                    // Unblocked here, it does its usual thing to the whole process.
                    let only = SigSet::from(signal);
                    let _ = only.thread_unblock();
                    let _ = nix::sys::signal::kill(nix::unistd::getpid(), signal);
                    let _ = only.thread_block();
                }
            }
        })?;
        Ok(Self { arrived, running })
    }

    /// From here on signals wait to be [taken](Self::take).
    pub(super) fn start(&self) {
        self.running.store(true, Ordering::Release);
    }

    /// From here on they do again what they always do.
    pub(super) fn stop(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// One that has arrived: only when readable.
    pub(super) fn take(&self) -> io::Result<Signal> {
        let mut byte = [0];
        io::Read::read_exact(&mut &self.arrived, &mut byte)?;
        Ok(Signal::try_from(i32::from(byte[0]))?)
    }
}

impl AsFd for Signals {
    /// Readable when a signal has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}
