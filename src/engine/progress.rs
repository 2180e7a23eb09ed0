//! What is said while a long layer is packed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::builder::Message;
use super::event::Event;
use crate::layer::Watch;
use crate::plan::StepId;
use crate::sandbox::Cancel;

/// Packing or fetching that takes no longer is not worth a word.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Between two words about it.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// One layer being packed.
pub(super) struct Progress(Arc<Shared>);

struct Shared {
    step: StepId,
    stop: Cancel,
    sender: Sender<Message>,
    /// When to speak next, and what was said last.
    next: Mutex<(Instant, Option<u64>)>,
}

impl Progress {
    /// Speaks through `sender` as soon as packing the layer of `step` takes long; `stop` ends it.
    pub(super) fn new(step: StepId, stop: &Cancel, sender: &Sender<Message>) -> Self {
        let next = Mutex::new((Instant::now() + PATIENCE, None));
        Self(Arc::new(Shared { step, stop: stop.clone(), sender: sender.clone(), next }))
    }

    /// For the writer of the layer.
    pub(super) fn watch(&self) -> Watch {
        let shared = Arc::clone(&self.0);
        Arc::new(move |bytes| shared.at(bytes))
    }

    /// The layer is `bytes` long and finished.
    pub(super) fn finish(&self, bytes: u64) {
        let next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.1.is_some() {
            self.0.tell(Event::Packed { step: self.0.step, bytes });
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
            self.tell(Event::Packing { step: self.step, bytes });
        }
        Ok(())
    }

    fn tell(&self, event: Event) {
        // The coordinator outlives its workers; if it is gone, nobody is interested.
        let _ = self.sender.send(Message::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_that_takes_long_is_told_from_time_to_time() {
        let (sender, messages) = crossbeam_channel::unbounded();
        let (stop, step) = (Cancel::new().unwrap(), StepId(3));
        let told = || {
            let said = |message| match message {
                Message::Event(Event::Packing { bytes, .. }) => format!("packing {bytes}"),
                Message::Event(Event::Packed { bytes, .. }) => format!("packed {bytes}"),
                _ => "something else".to_owned(),
            };
            messages.try_iter().map(said).collect::<Vec<_>>()
        };
        let short = Progress::new(step, &stop, &sender);
        short.watch()(1).unwrap();
        short.finish(2);
        assert!(told().is_empty());
        let long = Progress::new(step, &stop, &sender);
        long.0.next.lock().unwrap().0 = Instant::now();
        let watch = long.watch();
        (1..4).for_each(|bytes| watch(bytes).unwrap());
        assert_eq!(told(), ["packing 1"]);
        long.0.next.lock().unwrap().0 = Instant::now();
        watch(4).unwrap();
        long.finish(5);
        assert_eq!(told(), ["packing 4", "packed 5"]);
        stop.cancel();
        assert!(watch(6).is_err());
    }
}
