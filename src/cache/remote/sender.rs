//! Writes entries and their blobs to shared caches, beside the build.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender as Queue, unbounded};

use crate::base::digest::StepKey;
use crate::oci::blob::BlobSource;

use super::written::{Job, Mode, Target, Written};
use super::{ANSWER, Cut, Entry, EntryName, Failure, RemoteError, Remotes, within};

/// Entries written at the same time, per cache.
const JOBS: usize = 8;

/// Writes what builds make to shared caches.
#[derive(Default)]
pub(crate) struct Sender {
    targets: Vec<Written>,
    /// What was read tells what the targets have.
    read: Arc<Remotes>,
    /// How long the end of a build waits.
    patience: Duration,
    queue: Mutex<Option<Queue<(usize, Job)>>>,
    /// What is written when the build has made everything.
    late: Mutex<VecDeque<(usize, Job)>>,
    failures: Mutex<Vec<Failure>>,
}

impl Sender {
    /// Writes to `targets`, of which some may be among those that are `read`; the end of the build waits for `patience` at
    /// most.
    pub(crate) fn new(targets: Vec<Target>, read: Arc<Remotes>, patience: Duration) -> Self {
        let targets = targets.into_iter().map(Written::new).collect();
        Self { targets, read, patience, ..Self::default() }
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

    /// Writes an entry, to all caches or to those that take all steps. `cut`: its layer in segments. A cache that is known
    /// to have the result of another build for the step `below` gets it last, if the other one has not written its own. Where
    /// the entry that it `replaces` is still there, it takes its place.
    pub(crate) fn send(
        &self,
        entry: &Entry,
        below: Option<StepKey>,
        in_image: bool,
        cut: Option<&Arc<Cut>>,
        replaces: Option<&Entry>,
    ) {
        self.enqueue(|target| {
            let cut = cut.filter(|_| !(in_image && target.whole_images)).cloned();
            let job = || Job { entry: entry.clone(), below, cut, replaces: replaces.cloned() };
            (in_image || target.mode == Mode::Max).then(job)
        });
    }

    /// Whether the cache mount with this id is written somewhere.
    pub(crate) fn wants_mount(&self, id: &str) -> bool {
        self.targets.iter().any(|written| written.target.mounts.has(id))
    }

    /// Writes the entry of the cache mount with this id.
    pub(crate) fn send_mount(&self, id: &str, entry: &Entry, cut: Cut) {
        let cut = Arc::new(cut);
        let job = || Job { entry: entry.clone(), below: None, cut: Some(Arc::clone(&cut)), replaces: None };
        self.enqueue(|target| target.mounts.has(id).then(job));
    }

    /// Queues what goes to each target.
    fn enqueue(&self, wanted: impl Fn(&Target) -> Option<Job>) {
        let Some(queue) = lock(&self.queue).clone() else { return };
        for (at, written) in self.targets.iter().enumerate() {
            for job in wanted(&written.target).into_iter().flat_map(|job| written.admit(job)) {
                let _ = queue.send((at, job));
            }
        }
    }

    /// Whether every cache has the entry of the whole build, so that nothing needs to be written.
    pub(crate) fn all_have(&self, name: &EntryName) -> bool {
        let patience = ANSWER.min(self.patience);
        let late = |written: &Written| self.fail(written, RemoteError::Late(patience.as_secs()));
        let has = |written: &Written| {
            within(patience, &*written.target.remote, || late(written), || written.has(name, &self.read))
        };
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
        let late = || lock(&self.late).pop_front();
        for (at, job) in jobs.iter().chain(std::iter::from_fn(late)) {
            let written = &self.targets[at];
            match written.write(job, &self.read, from) {
                Ok(late) => lock(&self.late).extend(late.map(|job| (at, job))),
                Err(error) => self.fail(written, error),
            }
        }
    }

    /// Ends what the caches were given, when all of it was.
    fn finish(&self, from: &dyn BlobSource) {
        for written in self.targets.iter().filter(|written| !written.has_failed()) {
            if let Err(error) = written.target.remote.finish(from) {
                self.fail(written, error);
            }
        }
    }

    /// Gives a cache up. Only the first failure is kept: others follow from it.
    fn fail(&self, written: &Written, error: RemoteError) {
        if written.give_up() {
            lock(&self.failures).push(Failure { cache: written.target.remote.name().to_owned(), error });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
