//! One shared cache that is written: what of a build is there, is on its way, or is another build's.
//!
//! **Order.** An entry comes after its blobs, and an image after its steps. Where the cache is known to have the result of another
//! build for a step, what this build made on its own result comes last: the other one may write what it made on its.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::digest::{BlobDigest, StepKey};
use crate::oci::blob::BlobSource;
use crate::oci::descriptor::Descriptor;

use super::claim::{UploadClaim, owner};
use super::entry::Form;
use super::upload::upload;
use super::{Cut, Entry, EntryName, Mounts, Remote, RemoteError, Remotes};

/// How often an entry is written whose blobs others write at the same time.
const ATTEMPTS: u32 = 5;

/// How long to wait before asking whether another build has written an entry: at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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
    /// The cache mounts that go there.
    pub(crate) mounts: Mounts,
}

/// An entry to write.
pub(super) struct Job {
    pub(super) entry: Entry,
    /// The step below, whose result must be this build's, as long as that can be waited for.
    pub(super) below: Option<StepKey>,
    /// The layer in segments.
    pub(super) cut: Option<Arc<Cut>>,
    /// What was found under this name and did not do: too old, or made over other layers. It counts as absent, and only it:
    /// what another build has put in its place meanwhile stays. Over another build's result, nothing is replaced.
    pub(super) replaces: Option<Entry>,
}

impl Job {
    /// What a cache has, if it has this entry under the name of the job.
    fn held(&self, entry: Option<Entry>) -> Held {
        let entry = entry.filter(|entry| self.replaces.as_ref() != Some(entry));
        entry.map_or(Held::Nothing, |entry| Held::Entry(Box::new(entry)))
    }
}

/// A cache that is written.
pub(super) struct Written {
    pub(super) target: Target,
    /// The name of this build in claims.
    owner: String,
    failed: AtomicBool,
    /// Whether the cache has entries that were asked for.
    known: Mutex<BTreeMap<EntryName, bool>>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Entries that are written or about to be.
    admitted: BTreeSet<EntryName>,
    /// What waits for the entry of the step below to be admitted.
    early: BTreeMap<StepKey, Vec<Job>>,
    /// Blobs on their way, and how the cache has those that have arrived.
    blobs: BTreeMap<BlobDigest, Option<Form>>,
    /// Admitted entries of steps that are not written yet.
    open: usize,
    /// Whether the cache has this build's result of a step, once that is decided.
    steps: BTreeMap<StepKey, Option<bool>>,
}

/// What a cache has under a name.
enum Held {
    Nothing,
    Entry(Box<Entry>),
    /// An entry that cannot be read, or that is not asked for.
    Something,
}

/// How the cache has blobs.
type Forms = Vec<(BlobDigest, Form)>;

/// What an entry needs.
enum Needs {
    /// These blobs, which are now on their way.
    Blobs(Vec<Descriptor>),
    /// To be written last: the cache has another build's result of the step below.
    Patience,
}

impl Written {
    pub(super) fn new(target: Target) -> Self {
        let (known, progress, changed) = (Mutex::default(), Mutex::default(), Condvar::new());
        Self { target, owner: owner(), failed: AtomicBool::new(false), known, progress, changed }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Refuses more. Ok(true): it had not failed before.
    pub(super) fn give_up(&self) -> bool {
        let first = !self.failed.swap(true, Ordering::Relaxed);
        self.changed.notify_all();
        first
    }

    /// What is to be written now, in this order. An entry whose step below has not been admitted waits for that.
    pub(super) fn admit(&self, job: Job) -> Vec<Job> {
        let mut progress = lock(&self.progress);
        let (mut open, mut now) = (vec![job], Vec::new());
        while let Some(job) = open.pop() {
            if progress.admitted.contains(&job.entry.name) {
                continue;
            }
            if let Some(below) = job.below.filter(|below| !progress.steps.contains_key(below)) {
                progress.early.entry(below).or_default().push(job);
                continue;
            }
            progress.admitted.insert(job.entry.name);
            progress.open += usize::from(job.entry.layer.is_some());
            if let Some(key) = own_key(&job.entry) {
                progress.steps.insert(key, None);
                open.extend(progress.early.remove(&key).unwrap_or_default());
            }
            now.push(job);
        }
        now
    }

    /// Ok(None): the cache has the entry, or one of another build. Ok(Some): it is to be written last. Two entries with one blob
    /// bring it once.
    pub(super) fn write(&self, job: Job, read: &Remotes, from: &dyn BlobSource) -> Result<Option<Job>, RemoteError> {
        let (missing, written) = match self.reserve(&job) {
            None => (Vec::new(), Ok(None)),
            Some(Needs::Patience) => {
                self.decide(&job.entry, &[], None);
                return Ok(Some(Job { below: None, replaces: None, ..job }));
            }
            Some(Needs::Blobs(missing)) => {
                let written = self.bring(&job, &missing, read, from);
                (missing, written)
            }
        };
        self.decide(&job.entry, &missing, written.as_ref().ok().and_then(Option::as_ref));
        lock(&self.progress).open -= usize::from(job.entry.layer.is_some());
        self.changed.notify_all();
        written.map(|_| None)
    }

    /// Tells those who wait whether the cache has this entry, and the blobs that were on their way.
    fn decide(&self, entry: &Entry, brought: &[Descriptor], there: Option<&Forms>) {
        let mut progress = lock(&self.progress);
        for blob in brought {
            let form =
                |forms: &Forms| forms.iter().find(|(digest, _)| *digest == blob.digest).map(|(_, form)| form.clone());
            match there {
                Some(forms) => progress.blobs.insert(blob.digest, Some(form(forms).unwrap_or(Form::Whole))),
                None => progress.blobs.remove(&blob.digest),
            };
        }
        if let Some(key) = own_key(entry) {
            progress.steps.insert(key, Some(there.is_some()));
        }
        drop(progress);
        self.changed.notify_all();
    }

    /// Whether the cache has an entry; each is asked for once.
    pub(super) fn has(&self, name: &EntryName, read: &Remotes) -> Result<bool, RemoteError> {
        if let Some(known) = self.known(name, read) {
            return Ok(known);
        }
        let has = self.target.remote.has(name)?;
        lock(&self.known).insert(*name, has);
        Ok(has)
    }

    /// Brings the blobs that are `missing`, and the entry. Ok(None): the cache has another build's.
    fn bring(
        &self,
        job: &Job,
        missing: &[Descriptor],
        read: &Remotes,
        from: &dyn BlobSource,
    ) -> Result<Option<Forms>, RemoteError> {
        let entry = &job.entry;
        let mut held = match read.answer_of(self.target.remote.name(), &entry.name) {
            _ if entry.name.is_replaced() => Held::Nothing,
            Some(answer) => job.held(answer),
            None => match self.known(&entry.name, read) {
                Some(true) => Held::Something,
                Some(false) => Held::Nothing,
                None => self.held(job)?,
            },
        };
        if matches!(held, Held::Nothing) && !missing.is_empty() && !entry.name.is_replaced() {
            held = self.claim(job)?;
        }
        let mut bring = missing.to_vec();
        for again in 1.. {
            match held {
                Held::Nothing => {}
                Held::Entry(held) => {
                    self.target.remote.used(&entry.name);
                    return Ok((held.blobs() == entry.blobs()).then(|| held.forms()));
                }
                Held::Something => return Ok(None),
            }
            match self.send(job, &bring, from) {
                Ok(Some(forms)) => return Ok(Some(forms)),
                Ok(None) => {
                    held = self.held(job)?;
                    if matches!(held, Held::Nothing) {
                        break;
                    }
                }
                Err(RemoteError::Behind(_)) if again < ATTEMPTS => {
                    (bring, held) = (entry.blobs(), Held::Nothing);
                    self.pause(Duration::from_millis(200) * again);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Brings blobs, then writes the entry. Ok(None): there is one.
    fn send(&self, job: &Job, bring: &[Descriptor], from: &dyn BlobSource) -> Result<Option<Forms>, RemoteError> {
        let (mut entry, mut forms) = (job.entry.clone(), Vec::new());
        for blob in job.entry.blobs() {
            let form = match (&job.cut, bring.contains(&blob)) {
                (Some(cut), true) => upload(&*self.target.remote, &job.entry, &blob, cut)?,
                (None, true) => self.target.remote.put_blob(&blob, from).map(|()| Form::Whole)?,
                (_, false) => lock(&self.progress).blobs.get(&blob.digest).cloned().flatten().unwrap_or(Form::Whole),
            };
            entry.set_form(blob.digest, &form);
            forms.push((blob.digest, form));
        }
        // What is replaced was written with its layer. The names of steps may have made an entry too long.
        let put = || self.target.remote.put(&entry, job.replaces.is_some());
        Ok((entry.name.is_replaced() || !entry.fits() || put()?).then_some(forms))
    }

    /// Claims the upload of what an entry leads to, and says what another build has written meanwhile.
    fn claim(&self, job: &Job) -> Result<Held, RemoteError> {
        let bytes = job.entry.blobs().iter().map(|blob| blob.size).sum();
        loop {
            let claim = UploadClaim::new(job.entry.claimed(), &self.owner, bytes);
            // A cache that cannot hold claims may still take blobs.
            let Ok(Some(other)) = self.target.remote.claim(&claim) else { return self.held(job) };
            let mut pause = POLL.0;
            while other.holds() && !self.has_failed() {
                match self.held(job)? {
                    Held::Nothing => self.pause(pause),
                    held => return Ok(held),
                }
                pause = (2 * pause).min(POLL.1);
            }
            // All who waited see the end at the same time.
            self.pause(claim.turn());
        }
    }

    fn held(&self, job: &Job) -> Result<Held, RemoteError> {
        match self.target.remote.get(&job.entry.name) {
            Ok(entry) => Ok(job.held(entry)),
            Err(RemoteError::Invalid { .. }) if self.target.remote.replaces_unreadable() => Ok(Held::Nothing),
            Err(RemoteError::Invalid { .. }) => Ok(Held::Something),
            Err(error) => Err(error),
        }
    }

    /// Whether the cache has an entry, as far as that is known.
    fn known(&self, name: &EntryName, read: &Remotes) -> Option<bool> {
        let known = lock(&self.known).get(name).copied();
        let known = known.or_else(|| Some(read.answer_of(self.target.remote.name(), name)?.is_some()));
        if known == Some(true) {
            self.target.remote.used(name);
        }
        known
    }

    /// Waits until none of the blobs is on its way, and for an image, until all steps are decided. `None`: the cache
    /// failed meanwhile; whoever noticed reports why.
    fn reserve(&self, job: &Job) -> Option<Needs> {
        let wanted = job.entry.blobs();
        let mut progress = lock(&self.progress);
        loop {
            if self.has_failed() {
                return None;
            }
            let decided = job.below.map_or(Some(true), |below| progress.steps.get(&below).copied().flatten());
            // Steps decide how layers are stored.
            let moving = wanted.iter().any(|blob| matches!(progress.blobs.get(&blob.digest), Some(None)))
                || job.entry.image.is_some() && progress.open > 0;
            match decided {
                Some(false) => return Some(Needs::Patience),
                // Entries are not written one after the other: on a long line that takes longer than a build.
                _ if !moving => break,
                _ => {}
            }
            let wait = self.changed.wait_timeout(progress, Duration::from_millis(100));
            progress = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        let missing: Vec<Descriptor> =
            wanted.into_iter().filter(|blob| !progress.blobs.contains_key(&blob.digest)).collect();
        progress.blobs.extend(missing.iter().map(|blob| (blob.digest, None)));
        Some(Needs::Blobs(missing))
    }

    /// Sleeps, as long as the cache has not failed.
    fn pause(&self, mut pause: Duration) {
        while !pause.is_zero() && !self.has_failed() {
            let now = pause.min(Duration::from_millis(20));
            std::thread::sleep(now);
            pause -= now;
        }
    }
}

/// The key of the step whose entry this is, by its own name.
fn own_key(entry: &Entry) -> Option<StepKey> {
    let layer = entry.layer.as_ref()?;
    (entry.name == EntryName::Step(layer.key)).then_some(layer.key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
