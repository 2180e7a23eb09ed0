//! The shared caches that a build reads, in the order in which they were named.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::digest::BlobDigest;
use crate::oci::blob::BlobStore;
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;

use super::assembly::assemble;
use super::entry::Form;
use super::{Entry, EntryName, LayerEntry, Mounts, Remote, RemoteError, within};

/// Requests of one wave at the same time.
const JOBS: usize = 16;

/// A shared cache that failed; it is not asked again.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The cache.
    pub(crate) cache: String,
    /// Why.
    pub(crate) error: RemoteError,
}

/// All shared caches that a build reads.
#[derive(Default)]
pub(crate) struct Remotes {
    caches: Vec<Cache>,
    /// The longest time that a wave of questions takes.
    patience: Duration,
    /// Which cache answered what.
    answers: Mutex<BTreeMap<EntryName, Option<(usize, Entry)>>>,
    /// The caches that have a blob, according to an entry that was found, and how.
    holders: Mutex<BTreeMap<BlobDigest, BTreeMap<usize, Form>>>,
    /// Blobs that were promised and could not be fetched.
    lost: AtomicUsize,
    failures: Mutex<Vec<Failure>>,
}

struct Cache {
    remote: Arc<dyn Remote>,
    /// The cache mounts that are restored from it.
    mounts: Mounts,
    failed: AtomicBool,
}

impl Remotes {
    /// Reads `caches`, each wave of questions within `patience`.
    pub(crate) fn new(caches: Vec<(Arc<dyn Remote>, Mounts)>, patience: Duration) -> Self {
        let cache = |(remote, mounts)| Cache { remote, mounts, failed: AtomicBool::new(false) };
        let caches = caches.into_iter().map(cache).collect();
        Self { caches, patience, ..Self::default() }
    }

    /// Whether there is none that could be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.usable().next().is_none()
    }

    /// Asks for entries, all at the same time; a later cache only for what the earlier ones do not have. Afterwards
    /// [`Remotes::entry`] knows the answers.
    pub(crate) fn ask(&self, names: &[EntryName]) {
        self.ask_those(names, &|_| true);
    }

    /// Whether a cache that works may have the cache mount with this id.
    pub(crate) fn have_mount(&self, id: &str) -> bool {
        self.usable().any(|(_, cache)| cache.mounts.has(id))
    }

    /// Asks those that may have the cache mount with this id for its entry.
    pub(crate) fn mount(&self, id: &str, name: &EntryName) -> Option<LayerEntry> {
        self.ask_those(&[*name], &|cache| cache.mounts.has(id));
        self.entry(name)?.layer
    }

    fn ask_those(&self, names: &[EntryName], wanted: &dyn Fn(&Cache) -> bool) {
        let mut open: Vec<EntryName> = {
            let answers = lock(&self.answers);
            names.iter().filter(|name| !answers.contains_key(name)).copied().collect()
        };
        open.sort_unstable();
        open.dedup();
        let mut further = Vec::new();
        for (at, cache) in self.usable().filter(|(_, cache)| wanted(cache)) {
            if open.is_empty() {
                break;
            }
            let found = self.ask_one(cache, &open);
            open.retain(|name| !found.contains_key(name));
            further.extend(found.values().flat_map(Entry::refers_to));
            let forms = found.values().flat_map(Entry::forms);
            forms.for_each(|(blob, form)| self.note(blob, at, form));
            lock(&self.answers).extend(found.into_iter().map(|(name, entry)| (name, Some((at, entry)))));
        }
        lock(&self.answers).extend(open.into_iter().map(|name| (name, None)));
        if !further.is_empty() {
            self.ask(&further);
        }
    }

    /// Notes that a cache has a blob. What is whole need not be put together.
    fn note(&self, blob: BlobDigest, at: usize, form: Form) {
        let mut holders = lock(&self.holders);
        let known = holders.entry(blob).or_default().entry(at).or_insert_with(|| form.clone());
        if form == Form::Whole {
            *known = form;
        }
    }

    /// What the caches answered. `None`: nothing, or they were not asked.
    pub(crate) fn entry(&self, name: &EntryName) -> Option<Entry> {
        let (_, entry) = lock(&self.answers).get(name).cloned().flatten()?;
        entry.blobs().iter().all(|blob| self.holds(blob)).then_some(entry)
    }

    /// The caches that were asked for an entry and do not have it.
    pub(crate) fn lacking(&self, name: &EntryName) -> Vec<String> {
        match lock(&self.answers).get(name) {
            Some(None) => self.usable().map(|(_, cache)| cache.remote.name().to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    /// The cache that an answer is from.
    pub(crate) fn found_in(&self, name: &EntryName) -> Option<String> {
        let answers = lock(&self.answers);
        let (at, _) = answers.get(name)?.as_ref()?;
        Some(self.caches[*at].remote.name().to_owned())
    }

    /// What the cache called `cache` answered, if it was asked; `Some(None)`: it has no such entry.
    pub(super) fn answer_of(&self, cache: &str, name: &EntryName) -> Option<Option<Entry>> {
        match lock(&self.answers).get(name)? {
            Some((at, entry)) => (self.caches[*at].remote.name() == cache).then(|| Some(entry.clone())),
            None => self.usable().any(|(_, asked)| asked.remote.name() == cache).then_some(None),
        }
    }

    /// Whether a cache that works has the blob.
    pub(crate) fn holds(&self, blob: &Descriptor) -> bool {
        self.holders_of(blob).next().is_some()
    }

    /// Copies a blob that an entry led to into `store`, which verifies it. `false`: no cache could give it; its entries are
    /// not answers any more.
    pub(crate) fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> bool {
        let fetched = self.try_fetch(blob, store);
        self.lost.fetch_add(usize::from(!fetched), Ordering::Relaxed);
        fetched
    }

    /// [`Remotes::fetch`] of a blob that the build can do without.
    pub(crate) fn try_fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> bool {
        while let Some((at, cache, form)) = self.holders_of(blob).next() {
            let fetched = match &form {
                Form::Whole => cache.remote.fetch(blob, store),
                Form::Parts(_, parts) => assemble(&*cache.remote, blob, parts, store),
            };
            match fetched {
                Ok(()) => return true,
                Err(error) => {
                    if let Some(holders) = lock(&self.holders).get_mut(&blob.digest) {
                        holders.remove(&at);
                    }
                    self.fail(cache, error);
                }
            }
        }
        false
    }

    /// How many blobs were promised and could not be fetched.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// A repository that has the blob as it is.
    pub(crate) fn repository_with(&self, blob: &Descriptor) -> Option<Reference> {
        let whole = self.holders_of(blob).filter(|(_, _, form)| *form == Form::Whole);
        whole.filter_map(|(_, cache, _)| cache.remote.repository().cloned()).next()
    }

    /// The caches that failed since the last call.
    pub(crate) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut lock(&self.failures))
    }

    /// What is worth saying about caches, if none had any answer.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let answers = lock(&self.answers);
        if answers.is_empty() || answers.values().any(Option::is_some) {
            return Vec::new();
        }
        drop(answers);
        let remark = |cache: &Cache| within(self.patience, &*cache.remote, || (), || Ok(cache.remote.remark()));
        self.usable().filter_map(|(_, cache)| remark(cache).ok().flatten()).collect()
    }

    fn usable(&self) -> impl Iterator<Item = (usize, &Cache)> {
        self.caches.iter().enumerate().filter(|(_, cache)| !cache.failed.load(Ordering::Relaxed))
    }

    fn holders_of(&self, blob: &Descriptor) -> impl Iterator<Item = (usize, &Cache, Form)> {
        let holders = lock(&self.holders).get(&blob.digest).cloned().unwrap_or_default();
        self.usable().filter_map(move |(at, cache)| Some((at, cache, holders.get(&at)?.clone())))
    }

    /// Asks one cache. The first failure, or the end of the patience, ends it.
    fn ask_one(&self, cache: &Cache, names: &[EntryName]) -> BTreeMap<EntryName, Entry> {
        let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let left = Left::new(JOBS.min(names.len()));
        let work = || {
            while !cache.failed.load(Ordering::Relaxed)
                && let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed))
            {
                match cache.remote.get(name) {
                    Ok(Some(entry)) => drop(lock(&found).insert(*name, entry)),
                    Ok(None) => {}
                    Err(error) => self.fail(cache, error),
                }
            }
            left.one_is_done();
        };
        std::thread::scope(|scope| {
            for _ in 0..JOBS.min(names.len()) {
                scope.spawn(work);
            }
            if !left.all_are_done_within(self.patience) {
                self.fail(cache, RemoteError::Late(self.patience.as_secs()));
                cache.remote.cancel();
            }
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a cache up. Only the first failure is kept: others follow from it.
    fn fail(&self, cache: &Cache, error: RemoteError) {
        if !cache.failed.swap(true, Ordering::Relaxed) {
            lock(&self.failures).push(Failure { cache: cache.remote.name().to_owned(), error });
        }
    }
}

/// Counts threads that are still at work.
struct Left(Mutex<usize>, Condvar);

impl Left {
    fn new(count: usize) -> Self {
        Self(Mutex::new(count), Condvar::new())
    }

    fn one_is_done(&self) {
        *lock(&self.0) -= 1;
        self.1.notify_all();
    }

    fn all_are_done_within(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut left = lock(&self.0);
        while *left > 0 {
            let now = Instant::now();
            if now >= until {
                return false;
            }
            left = self.1.wait_timeout(left, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
