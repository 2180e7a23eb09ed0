//! A large blob, fetched in several ranges at once and read in order.
//!
//! **Order.** The reader takes one part after the other; what no helper has begun it fetches itself. A helper fetches the
//! next part into memory, and begins another one only when the reader has taken it: a helper holds [`PART`] bytes at most,
//! and a client has [`MAX_HELPERS`] of them. Each part continues after a broken connection by itself.
//! **Not here.** Whether the server sends ranges: the first part tells. Verification: the sink verifies the whole blob.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use crate::oci::descriptor::Descriptor;
use crate::transport::HttpError;

use super::RegistryError;
use super::download::Download;
use super::repository::Repository;

/// The size of a part, in bytes.
const PART: u64 = 8 << 20;

/// Helpers of one blob.
const HELPERS: usize = 3;

/// Helpers of a client.
const MAX_HELPERS: usize = 4;

/// The parts of one blob.
pub(super) struct Parts<'a> {
    repository: &'a Repository<'a>,
    blob: &'a Descriptor,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The first part that nobody has begun.
    next: u64,
    /// Parts that a helper has begun and the reader has not taken; `None` while bytes arrive.
    parts: BTreeMap<u64, Option<Result<Vec<u8>, RegistryError>>>,
    /// The reader has ended.
    closed: bool,
}

impl<'a> Parts<'a> {
    /// The parts of `blob`; `None` if one connection is as good.
    pub(super) fn of(repository: &'a Repository<'a>, blob: &'a Descriptor) -> Option<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        (blob.size > 2 * PART).then_some(Self { repository, blob, state, changed })
    }

    /// Starts to read. Helpers run in `scope`, and end when the reader is dropped; without ranges there are none.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<PartsReader<'scope>, RegistryError> {
        let own = match self.begin(0) {
            Err(RegistryError::Http(HttpError::Status { .. })) => Download::start(self.repository, self.blob)?,
            other => other?,
        };
        let (at, own) = if own.is_part() {
            self.state().next = 1;
            self.spawn_helpers(scope);
            (0, own)
        } else {
            // The server sends the whole blob, as if it were the last part.
            (self.count() - 1, own.whole())
        };
        Ok(PartsReader { parts: self, at, own: Some(own), taken: Cursor::default(), failure: None })
    }

    fn spawn_helpers<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let helpers = self.repository.helpers();
        for permit in (0..HELPERS).map_while(|_| Permit::take(helpers)) {
            scope.spawn(move || {
                self.help();
                drop(permit);
            });
        }
    }

    fn begin(&self, part: u64) -> Result<Download<'_>, RegistryError> {
        let from = part * PART;
        Download::start_part(self.repository, self.blob, from..(from + PART).min(self.blob.size))
    }

    fn count(&self) -> u64 {
        self.blob.size.div_ceil(PART)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches parts until all are begun or the reader has ended.
    fn help(&self) {
        loop {
            let part = {
                let mut state = self.state();
                if state.closed || state.next == self.count() {
                    return;
                }
                let part = state.next;
                state.next += 1;
                state.parts.insert(part, None);
                part
            };
            let fetched = self.fetch(part);
            let mut state = self.state();
            state.parts.insert(part, Some(fetched));
            self.changed.notify_all();
            while !state.closed && state.parts.contains_key(&part) {
                state = self.wait(state);
            }
        }
    }

    fn fetch(&self, part: u64) -> Result<Vec<u8>, RegistryError> {
        let mut download = self.begin(part)?;
        let mut bytes = Vec::with_capacity(PART as usize);
        while !self.state().closed {
            // A piece at a time, to see soon that the reader has ended.
            match download.by_ref().take(256 << 10).read_to_end(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let url = self.repository.blob_url(self.blob).without_query();
                    let other = || HttpError::Network { url, reason: error.to_string(), attempts: 1 }.into();
                    return Err(download.into_failure().unwrap_or_else(other));
                }
            }
        }
        Ok(bytes)
    }

    /// The part `index`, if a helper has begun it; otherwise the caller has begun it.
    fn take(&self, index: u64) -> Option<Result<Vec<u8>, RegistryError>> {
        let mut state = self.state();
        if state.next == index {
            state.next += 1;
            return None;
        }
        while matches!(state.parts.get(&index), Some(None)) {
            state = self.wait(state);
        }
        let taken = state.parts.remove(&index).flatten();
        self.changed.notify_all();
        taken
    }
}

/// Reads a blob from its parts, unverified.
pub(super) struct PartsReader<'p> {
    parts: &'p Parts<'p>,
    /// The part being read.
    at: u64,
    /// Fetches that part, unless a helper did.
    own: Option<Download<'p>>,
    /// What a helper fetched.
    taken: Cursor<Vec<u8>>,
    failure: Option<RegistryError>,
}

impl PartsReader<'_> {
    pub(super) fn into_failure(mut self) -> Option<RegistryError> {
        self.failure.take().or_else(|| self.own.take()?.into_failure())
    }

    /// Ok: there is something to read, unless the blob is over.
    fn advance(&mut self) -> Result<(), RegistryError> {
        match self.parts.take(self.at) {
            Some(fetched) => self.taken = Cursor::new(fetched?),
            None => self.own = Some(self.parts.begin(self.at)?),
        }
        Ok(())
    }
}

impl Read for PartsReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = match &mut self.own {
                Some(own) => own.read(buf)?,
                None => self.taken.read(buf)?,
            };
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            if self.own.take().is_some() || !self.taken.get_ref().is_empty() {
                self.at += 1;
            }
            self.taken = Cursor::default();
            if self.at == self.parts.count() {
                return Ok(0);
            }
            if let Err(error) = self.advance() {
                let text = io::Error::other(error.to_string());
                self.failure = Some(error);
                return Err(text);
            }
        }
    }
}

impl Drop for PartsReader<'_> {
    fn drop(&mut self) {
        self.parts.state().closed = true;
        self.parts.changed.notify_all();
    }
}

/// The right to be one of a client's helpers.
struct Permit<'c>(&'c AtomicUsize);

impl<'c> Permit<'c> {
    fn take(helpers: &'c AtomicUsize) -> Option<Self> {
        let more = |count| (count < MAX_HELPERS).then_some(count + 1);
        helpers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(helpers))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
