//! Progress of packing a long layer.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::event::Event;
use super::message::Reporter;
use crate::layer::Watch;
use crate::plan::StepId;
use crate::sandbox::Cancel;

/// Packing or fetching that takes longer is reported.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two reports.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// One layer being packed.
pub(super) struct Progress(Arc<Shared>);

struct Shared {
    step: StepId,
    stop: Cancel,
    reporter: Reporter,
    /// When to report next, and what was reported last.
    next: Mutex<(Instant, Option<u64>)>,
}

impl Progress {
    /// Reports when packing the layer of `step` takes long; `stop` ends it.
    pub(super) fn new(step: StepId, stop: &Cancel, reporter: &Reporter) -> Self {
        let next = Mutex::new((Instant::now() + PATIENCE, None));
        Self(Arc::new(Shared { step, stop: stop.clone(), reporter: reporter.clone(), next }))
    }

    /// The callback for the writer of the layer.
    pub(super) fn watch(&self) -> Watch {
        let shared = Arc::clone(&self.0);
        Arc::new(move |bytes| shared.at(bytes))
    }

    /// The layer is `bytes` long and finished.
    pub(super) fn finish(&self, bytes: u64) {
        let next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.1.is_some() {
            self.0.reporter.event(Event::Packed { step: self.0.step, bytes });
        }
    }
}

impl Shared {
    fn at(&self, bytes: u64) -> io::Result<()> {
        self.stop.check()?;
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= next.0 {
            *next = (now + PAUSE, Some(bytes));
            drop(next);
            self.reporter.event(Event::Packing { step: self.step, bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::message::Message;

    use super::*;

    #[test]
    fn packing_reports_progress_periodically() {
        let (sender, messages) = crossbeam_channel::unbounded();
        let reporter = Reporter::new(sender);
        let (stop, step) = (Cancel::new().unwrap(), StepId(3));
        let reported = || {
            let text = |message| match message {
                Message::Event(Event::Packing { bytes, .. }) => format!("packing {bytes}"),
                Message::Event(Event::Packed { bytes, .. }) => format!("packed {bytes}"),
                _ => "something else".to_owned(),
            };
            messages.try_iter().map(text).collect::<Vec<_>>()
        };
        let short = Progress::new(step, &stop, &reporter);
        short.watch()(1).unwrap();
        short.finish(2);
        assert!(reported().is_empty());
        let long = Progress::new(step, &stop, &reporter);
        long.0.next.lock().unwrap().0 = Instant::now();
        let watch = long.watch();
        (1..4).for_each(|bytes| watch(bytes).unwrap());
        assert_eq!(reported(), ["packing 1"]);
        long.0.next.lock().unwrap().0 = Instant::now();
        watch(4).unwrap();
        long.finish(5);
        assert_eq!(reported(), ["packing 4", "packed 5"]);
        stop.cancel();
        assert!(watch(6).is_err());
    }
}
