//! Signals that end a build.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::cli::failure::{Failure, Kind};
use crate::sandbox::Cancel;

/// Starts the pool of worker threads deaf. It lives as long as the process, and a signal that one of its threads takes
/// does its usual thing, whoever waits for it: to be called before anything is read in parallel.
pub(super) fn deafen_pool() {
    let deaf = |_| {
        let _ = SigSet::all().thread_block();
    };
    // A pool that is there already was started by a test that runs several commands in one process.
    let _ = rayon::ThreadPoolBuilder::new().start_handler(deaf).build_global();
}

/// Watches for SIGINT, SIGTERM and SIGHUP for the rest of the process: the first cancels the build, which then ends by
/// itself; a second one, from somebody who cannot wait, ends the process at once. What is left then is swept by the
/// next start, and every command dies with this process.
pub(super) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// To be called before other threads start: they inherit that the signals are not theirs.
    pub(super) fn watch(cancel: &Cancel) -> Result<Self, Failure> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().map_err(|e| Failure::new(Kind::Host, format!("block signals: {e}")))?;
        let came = Arc::new(AtomicBool::new(false));
        let (seen, cancel) = (Arc::clone(&came), cancel.clone());
        std::thread::spawn(move || {
            while signals.wait().is_ok() {
                if seen.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(Kind::Interrupted.code()));
                }
                cancel.cancel();
            }
        });
        Ok(Self(came))
    }

    /// Some signal came.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
