//! Signals that end a command.
//!
//! **Order.** The first SIGINT, SIGTERM or SIGHUP sets a flag. Commands, downloads and git stop within milliseconds, and
//! scratch is swept on the way out. Work that does not check the flag gets [`GRACE`]; then unfinished files are removed
//! and the process exits. A second signal exits at once; the next start of kiln sweeps scratch.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::failure::{Failure, Kind};
use crate::base::unfinished;
use crate::sandbox::Cancel;

/// How long an interrupted command may take to end by itself.
const GRACE: Duration = Duration::from_millis(300);

/// Signals within this time after the first are duplicates of it.
const DUPLICATE: Duration = Duration::from_millis(150);

/// Starts the pool of worker threads with all signals blocked, so that none of them receives a signal in place of the
/// watcher. Must be called before anything runs in parallel.
pub(super) fn block_signals_in_pool() {
    let block = |_| {
        let _ = SigSet::all().thread_block();
    };
    // The pool exists already if a test runs several commands in one process.
    let _ = rayon::ThreadPoolBuilder::new().start_handler(block).build_global();
}

/// Watches for signals until it is dropped.
pub(super) struct Interrupts {
    arrived: Arc<AtomicBool>,
    stopped: Cancel,
    thread: Option<JoinHandle<()>>,
    before: SigSet,
}

impl Interrupts {
    /// Watches from now on. The first signal sets `cancel`; `report` runs if the process is ended instead.
    pub(super) fn watch(cancel: Cancel, report: impl FnOnce() + Send + 'static) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |e: nix::Error| Failure::new(Kind::Host, format!("{what}: {e}"));
        let stopped = event()?;
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let before = signals
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
            .map_err(failed("cannot block signals"))?;
        let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(failed("cannot watch signals"))?;
        let arrived = Arc::new(AtomicBool::new(false));
        let watcher = Watcher { signals: descriptor, cancel, stopped: stopped.clone(), arrived: Arc::clone(&arrived) };
        let thread = std::thread::spawn(move || watcher.watch(report));
        Ok(Self { arrived, stopped, thread: Some(thread), before })
    }

    /// A signal arrived.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    /// Restores the signal mask, unless a signal arrived. Does not return if the watcher is ending the process.
    fn drop(&mut self) {
        self.stopped.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported.
            let _ = thread.join();
        }
        // An interrupted command is ending: a repeated signal must not end it with another status.
        if !self.arrived.load(Ordering::Relaxed) {
            let _ = self.before.thread_set_mask();
        }
    }
}

struct Watcher {
    signals: SignalFd,
    cancel: Cancel,
    stopped: Cancel,
    arrived: Arc<AtomicBool>,
}

impl Watcher {
    fn watch(self, report: impl FnOnce()) {
        let mut first: Option<Instant> = None;
        let grace = Timespec::try_from(GRACE).ok();
        loop {
            let patience = grace.as_ref().filter(|_| self.arrived.load(Ordering::Relaxed));
            let mut fds = [
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
                PollFd::new(&self.stopped, PollFlags::IN),
            ];
            match poll(&mut fds, patience) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => {
                    unfinished::sweep();
                    report();
                    std::process::exit(i32::from(Kind::Interrupted.code()));
                }
                Ok(_) if fds[1].revents().is_empty() => {}
                _ => return,
            }
            while let Ok(Some(_)) = self.signals.read_signal() {
                // A signal to the whole process group arrives twice: the process outside the namespace forwards it too.
                if first.get_or_insert_with(Instant::now).elapsed() > DUPLICATE {
                    std::process::exit(i32::from(Kind::Interrupted.code()));
                }
                self.arrived.store(true, Ordering::Relaxed);
                self.cancel.cancel();
            }
        }
    }
}

/// A flag that threads and poll can wait for.
pub(super) fn event() -> Result<Cancel, Failure> {
    Cancel::new().map_err(|e| Failure::new(Kind::Host, format!("cannot create an eventfd: {e}")))
}

/// The failure of a command that a signal ended.
pub(super) fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted")
}
