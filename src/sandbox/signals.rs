//! Forwards signals of kiln to a running command.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::base::unfinished;

/// The signals that are forwarded to a command.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Receives this process's signals. While a command runs, they are forwarded to it; otherwise unfinished files are
/// removed and the signal has its usual effect.
#[derive(Debug)]
pub struct Signals {
    arrived: io::PipeReader,
    running: Arc<AtomicBool>,
}

impl Signals {
    /// Receives them for the rest of the process. Call it before other threads start: they inherit the blocked signals.
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
                    // Unblocked in this thread, it has its usual effect on the whole process.
                    let only = SigSet::from(signal);
                    let _ = only.thread_unblock();
                    let _ = nix::sys::signal::kill(nix::unistd::getpid(), signal);
                    let _ = only.thread_block();
                }
            }
        })?;
        Ok(Self { arrived, running })
    }

    /// From here on signals wait until they are [taken](Self::take).
    pub(super) fn start(&self) {
        self.running.store(true, Ordering::Release);
    }

    /// From here on they have their usual effect again.
    pub(super) fn stop(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// The next signal. Waits if none has arrived.
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
