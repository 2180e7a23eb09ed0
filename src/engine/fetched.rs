//! What is said while layers of a base come over a slow line.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::Sender;

use super::builder::Message;
use super::event::Event;
use super::progress::{PATIENCE, PAUSE};
use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSink, BlobSource, BlobStore, Bringing};
use crate::oci::descriptor::Descriptor;
use crate::plan::StepId;

/// Hears how many bytes came, from any thread.
pub type Came<'a> = dyn Fn(u64) + Sync + 'a;

/// The layers of one step being fetched.
pub(super) struct Fetched {
    step: StepId,
    of: u64,
    sender: Option<Sender<Message>>,
    /// When to speak next, and how much is here.
    state: Mutex<(Instant, u64)>,
}

impl Fetched {
    /// Speaks through `sender` from time to time if fetching `of` bytes takes long.
    pub(super) fn new(step: StepId, of: u64, sender: Option<Sender<Message>>) -> Self {
        Self { step, of, sender, state: Mutex::new((Instant::now() + PATIENCE, 0)) }
    }

    /// More bytes are here.
    pub(super) fn came(&self, more: u64) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A mirror that fails in the middle gives way to another server: then bytes come twice.
        state.1 = (state.1 + more).min(self.of);
        if now < state.0 {
            return;
        }
        state.0 = now + PAUSE;
        let bytes = state.1;
        drop(state);
        if let Some(sender) = &self.sender {
            // The coordinator outlives its workers; if it is gone, nobody is interested.
            let _ = sender.send(Message::Event(Event::Fetched { step: self.step, bytes, of: self.of }));
        }
    }
}

/// A store that tells how much it is given.
pub(super) struct Counted<'a> {
    pub(super) inner: &'a dyn BlobStore,
    pub(super) came: &'a Came<'a>,
}

impl BlobSource for Counted<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        self.inner.open(blob)
    }
}

impl BlobSink for Counted<'_> {
    fn has(&self, blob: &Descriptor) -> Result<bool, BlobError> {
        self.inner.has(blob)
    }

    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError> {
        self.inner.accept(blob, &mut Counting { content, came: self.came })
    }

    fn bring(&self, blob: &Descriptor, go_on: &dyn Fn() -> bool) -> Result<Box<dyn Bringing>, BlobError> {
        self.inner.bring(blob, go_on)
    }
}

struct Counting<'a> {
    content: &'a mut dyn Read,
    came: &'a Came<'a>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buf)?;
        (self.came)(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_that_takes_long_is_told_from_time_to_time() {
        let (sender, messages) = crossbeam_channel::unbounded();
        let told = || {
            let said = |message| match message {
                Message::Event(Event::Fetched { bytes, of, .. }) => format!("{bytes} of {of}"),
                _ => "something else".to_owned(),
            };
            messages.try_iter().map(said).collect::<Vec<_>>()
        };
        let fetched = Fetched::new(StepId(3), 10, Some(sender));
        let wait = || fetched.state.lock().unwrap().0 = Instant::now();
        (0..3).for_each(|_| fetched.came(1));
        assert!(told().is_empty(), "it takes no time yet");
        wait();
        (0..3).for_each(|_| fetched.came(1));
        assert_eq!(told(), ["4 of 10"]);
        wait();
        let mut reader = Counting { content: &mut &b"123456789"[..], came: &|more| fetched.came(more) };
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(told(), ["10 of 10"]);
    }
}
