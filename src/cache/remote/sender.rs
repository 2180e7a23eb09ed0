//! Writes entries and their blobs to shared caches, beside the build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender as Queue, unbounded};

use crate::base::digest::BlobDigest;
use crate::oci::blob::BlobSource;
use crate::oci::descriptor::Descriptor;

use super::{ANSWER, Entry, EntryName, Failure, Remote, RemoteError, Remotes, within};

/// Entries written at the same time, per cache.
const JOBS: usize = 4;

/// How often an entry is written whose blobs others write at the same time.
const ATTEMPTS: u32 = 5;

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The steps whose layers the image has.
    #[default]
    Min,
    /// All steps.
    Max,
}

/// A shared cache that is written.
pub(crate) struct Target {
    /// The cache.
    pub(crate) remote: Arc<dyn Remote>,
    /// What goes there.
    pub(crate) mode: Mode,
}

/// Writes what builds make to shared caches.
#[derive(Default)]
pub(crate) struct Sender {
    targets: Vec<Written>,
    /// What was read tells what the targets have.
    read: Arc<Remotes>,
    /// How long the end of a build waits.
    patience: Duration,
    queue: Mutex<Option<Queue<(usize, Entry)>>>,
    failures: Mutex<Vec<Failure>>,
}

struct Written {
    target: Target,
    failed: AtomicBool,
    /// Blobs on their way, and those that have arrived.
    blobs: Mutex<BTreeMap<BlobDigest, bool>>,
    arrived: Condvar,
    /// Entries that the cache has, or has not.
    known: Mutex<BTreeMap<EntryName, bool>>,
    /// Entries that are written or about to be.
    queued: Mutex<BTreeSet<EntryName>>,
}

impl Sender {
    /// Writes to `targets`, of which some may be among those that are `read`; the end of the build waits for `patience` at
    /// most.
    pub(crate) fn new(targets: Vec<Target>, read: Arc<Remotes>, patience: Duration) -> Self {
        let written = |target| Written {
            target,
            failed: AtomicBool::new(false),
            blobs: Mutex::default(),
            arrived: Condvar::new(),
            known: Mutex::default(),
            queued: Mutex::default(),
        };
        Self { targets: targets.into_iter().map(written).collect(), read, patience, ..Self::default() }
    }

    /// Whether nothing is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether steps that are no part of the image are written somewhere.
    pub(crate) fn wants_all(&self) -> bool {
        self.targets.iter().any(|written| written.target.mode == Mode::Max)
    }

    /// Does `work`, and writes what it gives to [`Sender::send`] meanwhile, with blobs `from` the store. At the end, waits
    /// until everything is written, as long as there is patience.
    pub(crate) fn during<T>(&self, from: &dyn BlobSource, work: impl FnOnce() -> T) -> T {
        if self.is_empty() {
            return work();
        }
        let (queue, jobs) = unbounded();
        *lock(&self.queue) = Some(queue);
        let left = AtomicUsize::new(JOBS * self.targets.len());
        let writing = AtomicUsize::new(JOBS * self.targets.len());
        std::thread::scope(|scope| {
            for _ in 0..self.targets.len() * JOBS {
                let (jobs, left, writing) = (jobs.clone(), &left, &writing);
                scope.spawn(move || {
                    self.write_all(&jobs, from);
                    if writing.fetch_sub(1, Ordering::AcqRel) == 1 {
                        self.finish(from);
                    }
                    left.fetch_sub(1, Ordering::Release);
                });
            }
            let done = work();
            // The threads end when the queue is empty.
            *lock(&self.queue) = None;
            self.wait(&left);
            done
        })
    }

    /// Writes an entry, to all caches or to those that take all steps.
    pub(crate) fn send(&self, entry: &Entry, in_image: bool) {
        let Some(queue) = lock(&self.queue).clone() else { return };
        for (at, written) in self.targets.iter().enumerate() {
            let wanted = in_image || written.target.mode == Mode::Max;
            if wanted && lock(&written.queued).insert(entry.name) {
                let _ = queue.send((at, entry.clone()));
            }
        }
    }

    /// Whether every cache has the entry of the whole build, so that nothing needs to be written.
    pub(crate) fn all_have(&self, name: &EntryName) -> bool {
        let patience = ANSWER.min(self.patience);
        let has = |written: &Written| within(patience, &*written.target.remote, || written.has(name, &self.read));
        self.targets.iter().all(|written| match has(written) {
            Ok(has) => has,
            Err(error) => {
                self.fail(written, error);
                true
            }
        })
    }

    /// The caches that failed since the last call.
    pub(crate) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut lock(&self.failures))
    }

    fn wait(&self, left: &AtomicUsize) {
        let until = Instant::now() + self.patience;
        while left.load(Ordering::Acquire) > 0 {
            if Instant::now() >= until {
                for written in &self.targets {
                    self.fail(written, RemoteError::Late(self.patience.as_secs()));
                    written.target.remote.cancel();
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn write_all(&self, jobs: &Receiver<(usize, Entry)>, from: &dyn BlobSource) {
        for (at, entry) in jobs {
            let written = &self.targets[at];
            if written.failed.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(error) = written.write(&entry, &self.read, from) {
                self.fail(written, error);
            }
        }
    }

    /// Ends what the caches were given, when all of it was.
    fn finish(&self, from: &dyn BlobSource) {
        for written in self.targets.iter().filter(|written| !written.failed.load(Ordering::Relaxed)) {
            if let Err(error) = written.target.remote.finish(from) {
                self.fail(written, error);
            }
        }
    }

    fn fail(&self, written: &Written, error: RemoteError) {
        if !written.failed.swap(true, Ordering::Relaxed) {
            lock(&self.failures).push(Failure { cache: written.target.remote.name().to_owned(), error });
            written.arrived.notify_all();
        }
    }
}

impl Written {
    fn write(&self, entry: &Entry, read: &Remotes, from: &dyn BlobSource) -> Result<(), RemoteError> {
        if self.has(&entry.name, read)? {
            return Ok(());
        }
        for again in 0..ATTEMPTS {
            for blob in entry.blobs() {
                self.bring(&blob, from)?;
            }
            match self.target.remote.put(entry) {
                Err(RemoteError::Behind(_)) if again + 1 < ATTEMPTS => {
                    std::thread::sleep(Duration::from_millis(200) * (again + 1));
                    let mut blobs = lock(&self.blobs);
                    blobs.retain(|digest, _| entry.blobs().iter().all(|blob| blob.digest != *digest));
                }
                put => {
                    put?;
                    break;
                }
            }
        }
        lock(&self.known).insert(entry.name, true);
        Ok(())
    }

    /// Whether the cache has an entry; each is asked for once.
    fn has(&self, name: &EntryName, read: &Remotes) -> Result<bool, RemoteError> {
        let known = lock(&self.known).get(name).copied();
        if let Some(known) = known.or_else(|| read.known_of(self.target.remote.name(), name)) {
            if known {
                self.target.remote.used(name);
            }
            return Ok(known);
        }
        let has = self.target.remote.has(name)?;
        lock(&self.known).insert(*name, has);
        Ok(has)
    }

    /// Ok: the cache has the blob. Two entries with one blob bring it once.
    fn bring(&self, blob: &Descriptor, from: &dyn BlobSource) -> Result<(), RemoteError> {
        let mut blobs = lock(&self.blobs);
        loop {
            match blobs.get(&blob.digest) {
                Some(true) => return Ok(()),
                // Whoever brings it reports why it fails.
                Some(false) if self.failed.load(Ordering::Relaxed) => return Ok(()),
                Some(false) => {
                    let wait = self.arrived.wait_timeout(blobs, Duration::from_millis(100));
                    blobs = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => break,
            }
        }
        blobs.insert(blob.digest, false);
        drop(blobs);
        let brought = self.target.remote.put_blob(blob, from);
        if brought.is_ok() {
            lock(&self.blobs).insert(blob.digest, true);
        }
        self.arrived.notify_all();
        brought
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
