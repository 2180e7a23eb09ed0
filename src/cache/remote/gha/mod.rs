//! A shared cache in the cache of GitHub Actions.
//!
//! The service allows about 200 new entries in a minute and finds an entry by the beginning of its key, the newest first. So a
//! build adds two at most: a pack with the blobs that were not there, and an index. The index lists all entries of kiln's on a
//! branch, and where their blobs are in this pack and earlier ones.
//!
//! **Order.** Pack, then index. Indexes of a branch are numbered, and no number can be taken twice: who finds the next one taken
//! reads it and writes the one after it, so that builds that end together lose nothing.
//! **Lost.** The service removes what nobody read for a week, and what exceeds its limit. An entry whose blobs are in such a pack
//! is none; to read an entry asks for its packs, so that they stay.

mod index;
mod pack;
mod refs;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::oci::blob::{BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::transport::{HttpClient, Url};

use super::{Entry, EntryName, Remote, RemoteError};
use index::{Additions, Index, Location, MAX_BYTES};
use pack::{Pack, Places, Writer};
use refs::{Scope, branches};
use service::{Found, Service};

/// The longest name of a scope: keys have at most 512 bytes.
const MAX_SCOPE: usize = 256;
/// How long the URL of a pack is used; it is valid for ten minutes.
const FRESH: Duration = Duration::from_secs(300);
/// The pause while another build writes the next index.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the next index is waited for before its writer counts as dead.
const MAX_WAITS: u32 = 20;
/// How many numbers are left to dead writers.
const MAX_SKIPPED: u64 = 16;
/// Packs looked up at the same time.
const JOBS: usize = 8;

/// A part of an Actions cache, and the token for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GhaPlace {
    url: Url,
    token: String,
    scope: Scope,
}

/// Why a place cannot be named so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GhaPlaceError {
    /// The URL.
    #[error("the URL of the service is not an http or https URL without a user name")]
    Url,
    /// The scope.
    #[error("scope is empty, too long, or has a comma or a control character")]
    Scope,
}

impl GhaPlace {
    /// The place for builds of `scope` in the service at `url`.
    pub(crate) fn new(url: &str, token: String, scope: String) -> Result<Self, GhaPlaceError> {
        let url = Url::parse(url).ok_or(GhaPlaceError::Url)?;
        if scope.is_empty() || scope.len() > MAX_SCOPE || scope.contains(|c: char| c == ',' || c.is_control()) {
            return Err(GhaPlaceError::Scope);
        }
        Ok(Self { url, token, scope: Scope(scope) })
    }
}

impl fmt::Debug for GhaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GhaPlace").field("url", &self.url).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The cache at a place.
pub(crate) struct GhaCache {
    service: Service,
    name: String,
    scope: Scope,
    /// The branches that can be read, the own one first.
    branches: Vec<Branch>,
    /// The packs that were asked for.
    packs: Mutex<BTreeMap<String, Arc<Mutex<PackState>>>>,
    pack: Mutex<Arc<Pack>>,
    added: Mutex<Additions>,
}

struct Branch {
    name: String,
    read: Mutex<Reading>,
}

/// What is known of the newest index of a branch.
#[derive(Clone)]
enum Reading {
    Not,
    Done(Arc<Newest>),
    Failed(Arc<RemoteError>),
}

/// The newest index of a branch; without a number, there is none.
#[derive(Default)]
struct Newest {
    number: Option<u64>,
    key: String,
    /// Err: what is wrong with it.
    index: Option<Result<Index, String>>,
}

#[derive(Default)]
enum PackState {
    #[default]
    Unknown,
    At(Url, Instant),
    Gone,
}

impl GhaCache {
    /// The cache at `place`.
    pub(crate) fn new(http: HttpClient, place: GhaPlace) -> Self {
        let branch = |name| Branch { name, read: Mutex::new(Reading::Not) };
        Self {
            name: format!("GitHub Actions at {}, scope {}", place.url.authority, place.scope.0),
            branches: branches(&place.token).into_iter().map(branch).collect(),
            service: Service::new(http, place.url, &place.token),
            scope: place.scope,
            packs: Mutex::default(),
            pack: Mutex::default(),
            added: Mutex::default(),
        }
    }

    /// The newest index of a branch; it is read once.
    fn newest(&self, branch: &Branch) -> Result<Arc<Newest>, RemoteError> {
        let mut read = lock(&branch.read);
        match &*read {
            Reading::Done(newest) => return Ok(Arc::clone(newest)),
            Reading::Failed(why) => return Err(RemoteError::Known(Arc::clone(why))),
            Reading::Not => {}
        }
        match self.read_newest(branch, None).map(Arc::new) {
            Ok(newest) => {
                *read = Reading::Done(Arc::clone(&newest));
                Ok(newest)
            }
            Err(why) => {
                let why = Arc::new(why);
                *read = Reading::Failed(Arc::clone(&why));
                Err(RemoteError::Known(why))
            }
        }
    }

    /// Reads the newest index of a branch, unless it is the known one.
    fn read_newest(&self, branch: &Branch, known: Option<&Newest>) -> Result<Newest, RemoteError> {
        let Some(Found { key, url }) = self.service.newest(&self.scope.indexes(&branch.name))? else {
            return Ok(Newest::default());
        };
        let number = self.scope.number(&key);
        if let Some(known) = known.filter(|known| known.number == number) {
            return Ok(Newest { number, key, index: known.index.clone() });
        }
        let bytes = self.service.read(&url, None)?.into_bytes(MAX_BYTES)?;
        Ok(Newest { number, key, index: Some(Index::parse(&bytes)) })
    }

    /// The entry of this name on the first branch that has it. Branches are read only as far as needed.
    fn find(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError> {
        for branch in &self.branches {
            let newest = self.newest(branch)?;
            let invalid = |why: &String| RemoteError::Invalid { name: newest.key.clone(), why: why.clone() };
            let Some(index) = newest.index.as_ref() else { continue };
            let index = index.as_ref().map_err(invalid)?;
            let Some(entry) = index.entry(name) else { continue };
            let entry = entry.map_err(|why| RemoteError::Invalid { name: name.to_string(), why })?;
            let packs = entry.stored().iter().filter_map(|blob| Some(index.location(blob)?.pack)).collect();
            if self.are_there(&packs)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Where a blob is, according to the indexes that were read. The pack may be gone, as far as nobody asked.
    fn location(&self, blob: &Descriptor) -> Option<Location> {
        let known = self.branches.iter().filter_map(|branch| self.known(branch));
        let found = known.filter_map(|newest| newest.index.as_ref()?.as_ref().ok()?.location(blob));
        let gone = self.gone();
        found.into_iter().find(|location| !gone.contains(&location.pack))
    }

    /// The packs that are known to be gone.
    fn gone(&self) -> BTreeSet<String> {
        let packs: Vec<_> = lock(&self.packs).iter().map(|(pack, state)| (pack.clone(), Arc::clone(state))).collect();
        packs.into_iter().filter(|(_, state)| matches!(*lock(state), PackState::Gone)).map(|(pack, _)| pack).collect()
    }

    fn are_there(&self, packs: &BTreeSet<String>) -> Result<bool, RemoteError> {
        let (next, packs) = (AtomicUsize::new(0), packs.iter().collect::<Vec<_>>());
        let (gone, failure) = (Mutex::new(false), Mutex::new(None));
        let work = || {
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.url_of(pack) {
                    Ok(Some(_)) => {}
                    Ok(None) => *lock(&gone) = true,
                    Err(error) => drop(lock(&failure).get_or_insert(error)),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..JOBS.min(packs.len()) {
                scope.spawn(work);
            }
            work();
        });
        match lock(&failure).take() {
            Some(error) => Err(error),
            None => Ok(!*lock(&gone)),
        }
    }

    /// Where a pack can be read. `None`: it is not there any more.
    fn url_of(&self, pack: &str) -> Result<Option<Url>, RemoteError> {
        let state = Arc::clone(lock(&self.packs).entry(pack.to_owned()).or_default());
        let mut state = lock(&state);
        match &*state {
            PackState::At(url, since) if since.elapsed() < FRESH => return Ok(Some(url.clone())),
            PackState::Gone => return Ok(None),
            _ => {}
        }
        let found = self.service.exactly(&self.scope.pack(pack))?;
        *state = found.map_or(PackState::Gone, |found| PackState::At(found.url, Instant::now()));
        match &*state {
            PackState::At(url, _) => Ok(Some(url.clone())),
            _ => Ok(None),
        }
    }

    /// Puts an index that has all of `added` after the newest one, whatever others write meanwhile.
    fn write_index(&self, added: &Additions, places: &Places) -> Result<(), RemoteError> {
        let own = self.branches.first().expect("there is one");
        let mut known = self.known(own);
        let (mut waits, mut skipped) = (0, 0);
        loop {
            let newest = self.read_newest(own, known.as_deref())?;
            if known.as_ref().is_none_or(|known| known.number != newest.number) {
                (waits, skipped) = (0, 0);
            }
            let number = newest.number.unwrap_or(0) + 1 + skipped;
            // One that cannot be read is replaced.
            let before = newest.index.clone().and_then(Result::ok).unwrap_or_default();
            let key = self.scope.index(&own.name, number);
            if let Some(url) = self.service.reserve(&key)? {
                let index = before
                    .with(number, added, |blob| places.get(&blob.digest).cloned().or_else(|| self.location(blob)));
                let bytes = index.to_bytes();
                self.service.write(&url, &bytes)?;
                self.service.finalize(&key, bytes.len() as u64)?;
                let written = Newest { number: Some(number), key: key.key, index: Some(Ok(index)) };
                *lock(&own.read) = Reading::Done(Arc::new(written));
                return Ok(());
            }
            known = Some(Arc::new(newest));
            if waits < MAX_WAITS {
                waits += 1;
                self.service.pause(PAUSE)?;
            } else if skipped < MAX_SKIPPED {
                skipped += 1;
            } else {
                return Err(RemoteError::Invalid { name: key.key, why: "it is taken, and so are the next".to_owned() });
            }
        }
    }

    fn known(&self, branch: &Branch) -> Option<Arc<Newest>> {
        match &*lock(&branch.read) {
            Reading::Done(newest) => Some(Arc::clone(newest)),
            _ => None,
        }
    }

    fn writer<'a>(&'a self, from: &'a dyn BlobSource) -> Writer<'a> {
        Writer { service: &self.service, scope: &self.scope, from }
    }
}

impl Remote for GhaCache {
    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError> {
        self.find(name)
    }

    fn has(&self, name: &EntryName) -> Result<bool, RemoteError> {
        match self.find(name) {
            Ok(Some(_)) => {
                self.used(name);
                Ok(true)
            }
            Ok(None) | Err(RemoteError::Invalid { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), RemoteError> {
        let mut bytes = self.part(blob, 0..blob.size)?;
        Ok(store.accept(blob, &mut bytes)?)
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Result<Box<dyn Read + Send + '_>, RemoteError> {
        let gone = || RemoteError::Invalid { name: blob.digest.to_string(), why: "the blob is not there".to_owned() };
        let location = self.location(blob).ok_or_else(gone)?;
        let url = self.url_of(&location.pack)?.ok_or_else(gone)?;
        let (first, length) = (location.offset + range.start, range.end - range.start);
        let response = self.service.read(&url, Some(first..first + length))?;
        let whole = response.status == 200;
        let mut bytes = response.into_reader();
        if whole {
            // The server sends all of the pack.
            let failed = |e: io::Error| RemoteError::Invalid { name: location.pack.clone(), why: e.to_string() };
            io::copy(&mut (&mut bytes).take(first), &mut io::sink()).map_err(failed)?;
        }
        Ok(Box::new(bytes.take(length)))
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        match self.location(blob) {
            Some(location) => Ok(self.url_of(&location.pack)?.is_some()),
            None => Ok(false),
        }
    }

    fn put_blob(&self, blob: &Descriptor, from: &dyn BlobSource) -> Result<(), RemoteError> {
        for branch in &self.branches {
            self.newest(branch)?;
            if let Some(location) = self.location(blob)
                && self.url_of(&location.pack)?.is_some()
            {
                return Ok(());
            }
        }
        let pack = Arc::clone(&lock(&self.pack));
        pack.add(blob, self.writer(from))
    }

    fn put(&self, entry: &Entry, replaces: bool) -> Result<bool, RemoteError> {
        let mut added = lock(&self.added);
        added.entries.insert(entry.name, entry.clone());
        if replaces {
            added.replaced.insert(entry.name);
        }
        Ok(true)
    }

    fn replaces_unreadable(&self) -> bool {
        true
    }

    fn used(&self, name: &EntryName) {
        lock(&self.added).used.insert(*name);
    }

    fn finish(&self, from: &dyn BlobSource) -> Result<(), RemoteError> {
        let mut added = std::mem::take(&mut *lock(&self.added));
        let pack = std::mem::take(&mut *lock(&self.pack));
        if added.entries.is_empty() {
            return Ok(());
        }
        added.gone = self.gone();
        let places = if pack.is_empty() { Places::new() } else { pack.commit(self.writer(from))? };
        self.write_index(&added, &places)
    }

    fn cancel(&self) {
        self.service.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
