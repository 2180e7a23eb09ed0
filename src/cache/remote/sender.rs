//! Writes entries and their blobs to shared caches, beside the build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender as Queue, unbounded};

use crate::base::digest::BlobDigest;
use crate::oci::blob::BlobSource;
use crate::oci::descriptor::Descriptor;

use super::cut::MIN_CUT;
use super::entry::Form;
use super::upload::upload;
use super::{ANSWER, Cut, Entry, EntryName, Failure, Remote, RemoteError, Remotes, within};

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
    /// Layers of the image are not sent in parts: it is pushed to the same registry, which takes them from the cache.
    pub(crate) whole_images: bool,
}

/// An entry to write, with its layer in segments.
struct Job {
    entry: Entry,
    cut: Option<Arc<Cut>>,
}

/// Writes what builds make to shared caches.
#[derive(Default)]
pub(crate) struct Sender {
    targets: Vec<Written>,
    /// What was read tells what the targets have.
    read: Arc<Remotes>,
    /// How long the end of a build waits.
    patience: Duration,
    queue: Mutex<Option<Queue<(usize, Job)>>>,
    failures: Mutex<Vec<Failure>>,
}

struct Written {
    target: Target,
    failed: AtomicBool,
    /// Blobs on their way, and how the cache has those that have arrived.
    blobs: Mutex<BTreeMap<BlobDigest, Option<Form>>>,
    arrived: Condvar,
    /// Entries that the cache has, or has not.
    known: Mutex<BTreeMap<EntryName, bool>>,
    /// Entries that are written or about to be.
    queued: Mutex<BTreeSet<EntryName>>,
    /// Queued entries of steps that are not written yet.
    open: AtomicUsize,
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
            open: AtomicUsize::new(0),
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

    /// Writes an entry, to all caches or to those that take all steps. `cut`: its layer in segments.
    pub(crate) fn send(&self, entry: &Entry, in_image: bool, cut: Option<&Arc<Cut>>) {
        let Some(queue) = lock(&self.queue).clone() else { return };
        for (at, written) in self.targets.iter().enumerate() {
            let wanted = in_image || written.target.mode == Mode::Max;
            if wanted && lock(&written.queued).insert(entry.name) {
                written.open.fetch_add(usize::from(entry.layer.is_some()), Ordering::AcqRel);
                let cut = cut.filter(|_| !(in_image && written.target.whole_images)).cloned();
                let _ = queue.send((at, Job { entry: entry.clone(), cut }));
            }
        }
    }

    /// Whether every cache has the entry of the whole build, so that nothing needs to be written.
    pub(crate) fn all_have(&self, name: &EntryName) -> bool {
        let patience = ANSWER.min(self.patience);
        let has =
            |written: &Written| within(patience, &*written.target.remote, || written.has(name, false, &self.read));
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

    fn write_all(&self, jobs: &Receiver<(usize, Job)>, from: &dyn BlobSource) {
        for (at, job) in jobs {
            let written = &self.targets[at];
            if !written.failed.load(Ordering::Relaxed)
                && let Err(error) = written.write(&job, &self.read, from)
            {
                self.fail(written, error);
            }
            written.open.fetch_sub(usize::from(job.entry.layer.is_some()), Ordering::AcqRel);
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
    fn write(&self, job: &Job, read: &Remotes, from: &dyn BlobSource) -> Result<(), RemoteError> {
        if job.entry.image.is_some() {
            self.wait_for_steps();
        }
        let may_be_cut = job.entry.layer.is_some() && job.entry.blobs().iter().any(|blob| blob.size > MIN_CUT);
        if self.has(&job.entry.name, may_be_cut, read)? {
            return Ok(());
        }
        for again in 0..ATTEMPTS {
            match self.send(job, from) {
                Err(RemoteError::Behind(_)) if again + 1 < ATTEMPTS => {
                    std::thread::sleep(Duration::from_millis(200) * (again + 1));
                    let mut blobs = lock(&self.blobs);
                    blobs.retain(|digest, _| job.entry.blobs().iter().all(|blob| blob.digest != *digest));
                }
                sent => {
                    sent?;
                    break;
                }
            }
        }
        lock(&self.known).insert(job.entry.name, true);
        Ok(())
    }

    /// Brings the blobs, then writes the entry.
    fn send(&self, job: &Job, from: &dyn BlobSource) -> Result<(), RemoteError> {
        let mut entry = job.entry.clone();
        for blob in job.entry.blobs() {
            let form = self.bring(&blob, || match &job.cut {
                Some(cut) => upload(&*self.target.remote, &job.entry, &blob, cut),
                None => self.target.remote.put_blob(&blob, from).map(|()| Form::Whole),
            })?;
            entry.set_form(blob.digest, &form);
        }
        // The names of steps may have made it too long.
        if entry.fits() { self.target.remote.put(&entry) } else { Ok(()) }
    }

    /// Waits until the entries of steps are written, which decide how layers are stored.
    fn wait_for_steps(&self) {
        while self.open.load(Ordering::Acquire) > 0 && !self.failed.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the cache has an entry; each is asked for once. `learn`: how its layer is stored, too.
    fn has(&self, name: &EntryName, learn: bool, read: &Remotes) -> Result<bool, RemoteError> {
        if let Some(known) = lock(&self.known).get(name).copied() {
            return Ok(known);
        }
        let remote = &self.target.remote;
        let (has, entry) = match read.answer_of(remote.name(), name) {
            Some(answer) => {
                if answer.is_some() {
                    remote.used(name);
                }
                (answer.is_some(), answer)
            }
            None if learn => remote.get(name).map(|entry| (entry.is_some(), entry))?,
            None => (remote.has(name)?, None),
        };
        for (blob, form) in entry.iter().flat_map(Entry::forms) {
            if form != Form::Whole {
                lock(&self.blobs).entry(blob).or_insert(Some(form));
            }
        }
        lock(&self.known).insert(*name, has);
        Ok(has)
    }

    /// Ok: the cache has the blob in this form. Two entries with one blob bring it once.
    fn bring(&self, blob: &Descriptor, bring: impl FnOnce() -> Result<Form, RemoteError>) -> Result<Form, RemoteError> {
        let mut blobs = lock(&self.blobs);
        loop {
            match blobs.get(&blob.digest) {
                Some(Some(form)) => return Ok(form.clone()),
                // Whoever brings it reports why it fails.
                Some(None) if self.failed.load(Ordering::Relaxed) => return Ok(Form::Whole),
                Some(None) => {
                    let wait = self.arrived.wait_timeout(blobs, Duration::from_millis(100));
                    blobs = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => break,
            }
        }
        blobs.insert(blob.digest, None);
        drop(blobs);
        let brought = bring();
        if let Ok(form) = &brought {
            lock(&self.blobs).insert(blob.digest, Some(form.clone()));
        }
        self.arrived.notify_all();
        brought
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
