//! Progress of fetching the layers of a base image over a slow network.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::event::Event;
use super::message::Reporter;
use super::progress::{PATIENCE, PAUSE};
use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSink, BlobSource, BlobStore, DownloadClaim};
use crate::oci::descriptor::Descriptor;
use crate::plan::StepId;

/// Called with the number of bytes that arrived, from any thread.
pub(crate) type OnBytes<'a> = dyn Fn(u64) + Sync + 'a;

/// The progress of fetching the layers of one step.
pub(super) struct Fetched {
    step: StepId,
    of: u64,
    reporter: Reporter,
    /// When to report next, and how many bytes have arrived.
    state: Mutex<(Instant, u64)>,
}

impl Fetched {
    /// Reports periodically if fetching `of` bytes takes long.
    pub(super) fn new(step: StepId, of: u64, reporter: Reporter) -> Self {
        Self { step, of, reporter, state: Mutex::new((Instant::now() + PATIENCE, 0)) }
    }

    /// Counts bytes that have arrived.
    pub(super) fn add(&self, more: u64) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // If a mirror fails in the middle, another server sends the same bytes again.
        state.1 = (state.1 + more).min(self.of);
        if now < state.0 {
            return;
        }
        state.0 = now + PAUSE;
        let bytes = state.1;
        drop(state);
        self.reporter.event(Event::Fetched { step: self.step, bytes, of: self.of });
    }
}

/// A store that reports how many bytes it receives.
pub(crate) struct Counted<'a> {
    /// The store.
    pub(crate) inner: &'a dyn BlobStore,
    /// Called with the number of bytes that arrived.
    pub(crate) on_bytes: &'a OnBytes<'a>,
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
        self.inner.accept(blob, &mut Counting { content, on_bytes: self.on_bytes })
    }

    fn claim_download(&self, blob: &Descriptor, go_on: &dyn Fn() -> bool) -> Result<Box<dyn DownloadClaim>, BlobError> {
        self.inner.claim_download(blob, go_on)
    }
}

struct Counting<'a> {
    content: &'a mut dyn Read,
    on_bytes: &'a OnBytes<'a>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buf)?;
        (self.on_bytes)(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::message::Message;

    use super::*;

    #[test]
    fn fetching_reports_progress_periodically() {
        let (sender, messages) = crossbeam_channel::unbounded();
        let reported = || {
            let text = |message| match message {
                Message::Event(Event::Fetched { bytes, of, .. }) => format!("{bytes} of {of}"),
                _ => "something else".to_owned(),
            };
            messages.try_iter().map(text).collect::<Vec<_>>()
        };
        let fetched = Fetched::new(StepId(3), 10, Reporter::new(sender));
        let wait = || fetched.state.lock().unwrap().0 = Instant::now();
        (0..3).for_each(|_| fetched.add(1));
        assert!(reported().is_empty(), "it does not take long yet");
        wait();
        (0..3).for_each(|_| fetched.add(1));
        assert_eq!(reported(), ["4 of 10"]);
        wait();
        let mut reader = Counting { content: &mut &b"123456789"[..], on_bytes: &|more| fetched.add(more) };
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reported(), ["10 of 10"]);
    }
}
