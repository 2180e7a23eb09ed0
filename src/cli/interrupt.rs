//! Signals that end a command.
//!
//! **Order.** The first SIGINT, SIGTERM or SIGHUP sets a flag, by which commands, downloads and git end in milliseconds
//! and the command with them, everything swept on its way. Whatever looks at no flag (reading a huge archive, digesting
//! a huge file, removing what was unpacked) is not waited for longer than [`GRACE`]: then what is unfinished is removed
//! and the process ends. A second signal, from somebody who cannot wait, ends it at once; the next start sweeps.

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

/// Signals that come sooner after the first are the same one again.
const TWICE: Duration = Duration::from_millis(150);

/// Starts the pool of worker threads deaf. It lives as long as the process, and a signal that one of its threads takes
/// does its usual thing, whoever waits for it: to be called before anything is read in parallel.
pub(super) fn deafen_pool() {
    let deaf = |_| {
        let _ = SigSet::all().thread_block();
    };
    // A pool that is there already was started by a test that runs several commands in one process.
    let _ = rayon::ThreadPoolBuilder::new().start_handler(deaf).build_global();
}

/// Watches for signals as long as it lives.
pub(super) struct Interrupts {
    came: Arc<AtomicBool>,
    over: Cancel,
    thread: Option<JoinHandle<()>>,
    before: SigSet,
}

impl Interrupts {
    /// Watches from now on. The first signal sets `cancel`; `report` runs if the process is ended instead.
    pub(super) fn watch(cancel: Cancel, report: impl FnOnce() + Send + 'static) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |e: nix::Error| Failure::new(Kind::Host, format!("{what}: {e}"));
        let over = event()?;
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let before =
            signals.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).map_err(failed("block signals"))?;
        let arriving = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(failed("watch signals"))?;
        let came = Arc::new(AtomicBool::new(false));
        let watcher = Watcher { arriving, cancel, over: over.clone(), came: Arc::clone(&came) };
        let thread = std::thread::spawn(move || watcher.watch(report));
        Ok(Self { came, over, thread: Some(thread), before })
    }

    /// A signal arrived.
    pub(super) fn has_arrived(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    /// From here on signals do again what they did before, unless one came. Does not return from a command that is being ended.
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            // It panicked: then it has said so.
            let _ = thread.join();
        }
        // What was interrupted only has to end: the same signal, a moment later, must not end it another way.
        if !self.came.load(Ordering::Relaxed) {
            let _ = self.before.thread_set_mask();
        }
    }
}

struct Watcher {
    arriving: SignalFd,
    cancel: Cancel,
    over: Cancel,
    came: Arc<AtomicBool>,
}

impl Watcher {
    fn watch(self, report: impl FnOnce()) {
        let mut first: Option<Instant> = None;
        let grace = Timespec::try_from(GRACE).ok();
        loop {
            let patience = grace.as_ref().filter(|_| self.came.load(Ordering::Relaxed));
            let mut fds = [
                PollFd::from_borrowed_fd(self.arriving.as_fd(), PollFlags::IN),
                PollFd::new(&self.over, PollFlags::IN),
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
            while let Ok(Some(_)) = self.arriving.read_signal() {
                // One that is sent to a whole group comes twice, from the process that stands in for this one as well.
                if first.get_or_insert_with(Instant::now).elapsed() > TWICE {
                    std::process::exit(i32::from(Kind::Interrupted.code()));
                }
                self.came.store(true, Ordering::Relaxed);
                self.cancel.cancel();
            }
        }
    }
}

/// A flag that threads and poll can wait for.
pub(super) fn event() -> Result<Cancel, Failure> {
    Cancel::new().map_err(|e| Failure::new(Kind::Host, format!("eventfd: {e}")))
}

/// What is said of a command that a signal ended.
pub(super) fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted")
}
