//! Looks up one step, or executes it.
//!
//! **Order.** Key → lookup → execute → blob → tree → record. A RUN says that it is ready as soon as its command has
//! ended, and packs its layer while what depends on it already runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::base::digest::{DiffId, StepKey};
use crate::base::lock::Patience;
use crate::cache::{KeyParts, Listing, Local, Miss, Record, Slot};
use crate::oci::blob::BlobSink as _;
use crate::oci::descriptor::Layer;
use crate::plan::{Base, Plan, Step, StepId, StepKind};
use crate::sandbox::{Cancel, Launcher};
use crate::snapshot::Layers;
use crate::store::{Claim, Claiming, Scratch};

use super::builder::{Builder, Message};
use super::chain::{Link, Sealed, State, Stopped};
use super::event::Event;
use super::pack::Left;
use super::promise::Promise;
use super::reuse::Later;
use super::run::Remains;
use super::{Error, StepError, keys};
use crate::copy;

/// What a lookup gives.
pub(super) enum Look {
    /// The result is there.
    Hit(Arc<State>),
    /// It must be made.
    Miss(KeyParts),
}

/// What the threads of one build share.
pub(super) struct Worker<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) plan: &'a Plan,
    /// Who reads messages, once steps run.
    pub(super) coordinator: Arc<OnceLock<Sender<Message>>>,
    pub(super) layers: Layers<'a>,
    pub(super) launcher: Launcher,
    pub(super) stop: &'a Cancel,
    /// Made when first needed: a cached build needs none, nor a store that can be written to.
    scratch: OnceLock<Scratch>,
    pub(super) cache: Local,
    /// Steps being made now: another step with the same key waits instead of doing it twice.
    in_flight: Mutex<BTreeMap<StepKey, Promise<()>>>,
    /// What COPYs select of contexts, between looking up and executing.
    pub(super) selected: Mutex<BTreeMap<StepId, copy::Prepared<'a>>>,
    /// Of the command that failed first, if somebody wants it.
    pub(super) remains: Mutex<Option<Remains>>,
    /// What is recorded once more when no layer is being packed any more.
    pub(super) later: Mutex<Vec<Later>>,
    /// What places of the Dockerfile gave before this build, once somebody asked.
    before: Mutex<BTreeMap<StepId, Option<Arc<Record>>>>,
    /// Directories that RUNs filled and their layers: given to `layers/` when nobody mounts them any more.
    fresh: Mutex<Vec<(DiffId, PathBuf)>>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(builder: &'a Builder<'a>, plan: &'a Plan) -> Self {
        let coordinator: Arc<OnceLock<Sender<Message>>> = Arc::default();
        let told = Arc::clone(&coordinator);
        let tell = move |who: &str, why: &str| {
            if let Some(coordinator) = told.get() {
                let _ = coordinator.send(waiting(who, why));
            }
        };
        Self {
            builder,
            plan,
            coordinator,
            layers: Layers::new(builder.store.layers_dir(), builder.store)
                .until(builder.cancel)
                .telling(tell)
                .noticing(builder.store.notices())
                .kept_by(|dir| builder.store.keep_dir(dir)),
            launcher: Launcher::new(),
            stop: builder.cancel,
            cache: Local::new(&builder.store.root().join("cache")).telling(builder.store.notices()),
            in_flight: Mutex::default(),
            selected: Mutex::default(),
            remains: Mutex::default(),
            later: Mutex::default(),
            before: Mutex::default(),
            fresh: Mutex::default(),
            scratch: OnceLock::new(),
        }
    }

    /// From here on others may remove what this build does not use, for it may take long. `found` is used.
    pub(super) fn lease(&self, found: &[Option<Arc<State>>]) -> Result<(), Error> {
        let moment = self.builder.store.lease()?;
        for state in found.iter().flatten() {
            for layer in state.layers()? {
                self.builder.store.has(&layer.blob).map_err(crate::store::Error::from)?;
            }
        }
        drop(moment);
        Ok(())
    }

    /// This build's own directory in scratch.
    pub(super) fn scratch(&self) -> Result<&Path, Error> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch.path());
        }
        let made = self.builder.store.scratch()?;
        // Another thread may have been faster: then this one goes away again.
        Ok(self.scratch.get_or_init(|| made).path())
    }

    /// The layer with mount targets that all commands share.
    pub(super) fn usual_targets(&self) -> Result<PathBuf, Error> {
        Ok(self.scratch()?.join("targets"))
    }

    /// Ties a failure to the step it happened in.
    pub(super) fn located(&self, step: StepId, error: StepError) -> Error {
        // Whatever fails now does because of that; why it was set is known to who did.
        if self.stop.is_cancelled() {
            return Error::Cancelled;
        }
        match error {
            StepError::Build(e @ (Error::Stopped | Error::Cancelled | Error::Cold)) => e,
            StepError::Sandbox(crate::sandbox::Error::Cancelled) => Error::Cancelled,
            source => Error::Step { step, name: self.plan.step(step).meta.name.clone(), source: Box::new(source) },
        }
    }

    /// Looks for the result of `step`, whose inputs are `inputs`.
    pub(super) fn look_up(&self, step: &Step, inputs: &[Arc<State>]) -> Result<Look, StepError> {
        let mut parts = match &step.kind {
            StepKind::Base(Base::Scratch) => return Ok(Look::Hit(State::base(keys::base(&[]), []))),
            StepKind::Base(Base::Image(request)) => return self.look_up_image(request),
            StepKind::Base(Base::Context(name)) => keys::context(self.context_digest(name, "/")?),
            StepKind::Run(run) => {
                let mounts = self.mount_digests(run, step, inputs)?;
                keys::run(run, inputs[0].key, &mounts, &self.builder.devices.names(&run.devices))
            }
            StepKind::Copy(copy) => {
                let files = self.copy_digest(copy, step, inputs)?;
                keys::copy(copy, inputs[0].key, files)
            }
            StepKind::Workdir(workdir) => keys::workdir(workdir, inputs[0].key),
        };
        if let Some(latest) = self.plan.clamp {
            parts.add("SOURCE_DATE_EPOCH", latest.secs.to_string().as_bytes());
        }
        if step.meta.no_cache {
            return Ok(Look::Miss(parts));
        }
        let found = match self.recorded(&parts)? {
            Some(layer) => Some(layer),
            None => self.recorded_alike(step, inputs, &parts)?,
        };
        match found {
            Some(layer) => {
                self.remember(step, inputs, parts.key())?;
                Ok(Look::Hit(match inputs.first() {
                    Some(parent) => State::over(parent, parts.key(), Link::stored(layer)),
                    None => context_state(layer),
                }))
            }
            None => Ok(Look::Miss(parts)),
        }
    }

    /// Does what `step` says, telling the coordinator as it goes. Always ends with [`Message::Done`].
    pub(super) fn work(&self, step: &Step, inputs: &[Arc<State>], sender: &Sender<Message>) {
        let result = self.perform(step, inputs, sender);
        to(sender)(Message::Done(result.map_err(|e| (step.id, e))));
    }

    fn perform(&self, step: &Step, inputs: &[Arc<State>], sender: &Sender<Message>) -> Result<(), StepError> {
        let tell = &to(sender);
        let parts = match self.look_up(step, inputs)? {
            Look::Hit(state) => {
                self.found(step, state, tell);
                return Ok(());
            }
            Look::Miss(parts) => parts,
        };
        let key = parts.key();
        let Some(claim) = self.claim(key) else {
            // The step that held the claim may have failed, or run with another cache setting: look again.
            return self.perform(step, inputs, sender);
        };
        let mine = InFlight { worker: self, key, promise: claim };
        if self.stop.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        // Who wants it done whatever is there waits for nobody.
        if step.meta.no_cache {
            return self.make(step, inputs, parts, sender);
        }
        let claim = self.claim_among_processes(key, tell)?;
        if self.is_there(step, &parts)? {
            drop((claim, mine));
            return self.perform(step, inputs, sender);
        }
        let made = self.make(step, inputs, parts, sender);
        if let (Err(_), Some(claim)) = (&made, claim)
            && !self.stop.is_cancelled()
        {
            claim.failed();
        }
        made
    }

    /// Makes the result of `step`, and records it.
    fn make(
        &self,
        step: &Step,
        inputs: &[Arc<State>],
        parts: KeyParts,
        sender: &Sender<Message>,
    ) -> Result<(), StepError> {
        let tell = &to(sender);
        let key = parts.key();
        let before = self.last_record(step)?;
        let why = self.explain(step, inputs, &parts, before.as_deref())?;
        tell(Message::Event(Event::Started { step: step.id, why }));
        let began = Instant::now();
        let finished = |state: &Arc<State>| {
            tell(Message::Event(Event::Finished { step: step.id, took: began.elapsed() }));
            tell(Message::Ready(step.id, Arc::clone(state)));
        };
        match &step.kind {
            StepKind::Base(Base::Image(request)) => {
                finished(&self.fetch_image(step, request, tell)?);
                Ok(())
            }
            StepKind::Base(Base::Context(name)) => {
                let made = self.context_layer(name, step, sender)?;
                finished(&context_state(self.keep(step, inputs, parts, made)?.layer));
                Ok(())
            }
            StepKind::Base(Base::Scratch) => unreachable!("nothing is always there"),
            StepKind::Run(run) => {
                let ran = self.run(step, run, inputs, tell)?;
                let left = Left::look(&ran.prepared, &inputs[0], &self.layers)?;
                let (link, packing) = Link::packing(ran.prepared.fresh(), before.map(|before| before.diff_id));
                finished(&State::over(&inputs[0], key, link));
                let packed = self
                    .pack(step, left, ran.original.as_ref(), &inputs[0], &packing, sender)
                    .and_then(|made| self.keep(step, inputs, parts, made));
                if let (Ok(made), Some(fresh)) = (&packed, ran.prepared.fresh()) {
                    self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push((made.layer.diff_id, fresh));
                }
                packing.sealed.keep(packed.as_ref().map(Clone::clone).map_err(|_| Stopped));
                // Whoever waits for it and was not told learns now that nobody will.
                packing.outline.keep(Err(Stopped));
                packed.map(drop)
            }
            StepKind::Copy(copy) => {
                let made = self.copy(copy, step, inputs, sender)?;
                let sealed = self.keep(step, inputs, parts, made)?;
                finished(&State::over(&inputs[0], key, Link::made(sealed)));
                Ok(())
            }
            StepKind::Workdir(workdir) => {
                let made = self.workdir(step, workdir, &inputs[0], sender)?;
                let sealed = self.keep(step, inputs, parts, made)?;
                finished(&State::over(&inputs[0], key, Link::made(sealed)));
                Ok(())
            }
        }
    }

    /// Keeps unpacked what RUNs made, when no step runs any more. What cannot be kept is unpacked again when needed.
    pub(super) fn adopt(&self) -> Result<(), Error> {
        self.record_later()?;
        for (diff_id, made) in self.fresh.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.layers.adopt(diff_id, &made)?;
        }
        Ok(())
    }

    fn found(&self, step: &Step, state: Arc<State>, tell: &dyn Fn(Message)) {
        tell(Message::Event(Event::Cached(step.id)));
        tell(Message::Ready(step.id, state));
    }

    /// Ok(Some): we make the step with this key. None: somebody did; it is over now.
    fn claim(&self, key: StepKey) -> Option<Promise<()>> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        match in_flight.get(&key).cloned() {
            Some(other) => {
                drop(in_flight);
                other.wait();
                None
            }
            None => {
                let promise = Promise::new();
                in_flight.insert(key, promise.clone());
                Some(promise)
            }
        }
    }

    /// Waits until no other process makes the result with this key; `None`: it was tried, and nobody need be kept from
    /// failing too.
    fn claim_among_processes(&self, key: StepKey, tell: &dyn Fn(Message)) -> Result<Option<Claim>, StepError> {
        let mut told = |who: &str| tell(waiting(who, "it runs a step of this build"));
        let mut patience = Patience::new(&mut told).until(self.stop);
        match self.builder.store.claim(&key.hex(), &mut patience)? {
            Claiming::Ours(claim) => Ok(Some(claim)),
            Claiming::Failed => Ok(None),
        }
    }

    /// The result of `step` has been made meanwhile.
    fn is_there(&self, step: &Step, parts: &KeyParts) -> Result<bool, StepError> {
        match &step.kind {
            StepKind::Base(Base::Image(request)) => Ok(matches!(self.look_up_image(request)?, Look::Hit(_))),
            _ => Ok(self.recorded(parts)?.is_some()),
        }
    }

    /// The layer recorded under these parts, if its blob is still there.
    pub(super) fn recorded(&self, parts: &KeyParts) -> Result<Option<Layer>, StepError> {
        let Some(record) = self.cache.lookup(parts.key())? else { return Ok(None) };
        let name = self.builder.settings.compression.method();
        if let Some(blob) = record.blobs.get(&name)
            && self.builder.store.has(blob).map_err(crate::store::Error::from)?
        {
            return Ok(Some(Layer { diff_id: record.diff_id, blob: blob.clone() }));
        }
        // The layer in another compression is as good as the command that made it, and faster.
        for blob in record.blobs.values() {
            if self.builder.store.has(blob).map_err(crate::store::Error::from)? {
                let blob = self.recompress(record.diff_id, blob)?;
                let mut record = record.clone();
                record.blobs.insert(name, blob.clone());
                self.cache.record(&record)?;
                return Ok(Some(Layer { diff_id: record.diff_id, blob }));
            }
        }
        Ok(None)
    }

    /// Why `step` missed, from what its place had last time.
    fn explain(
        &self,
        step: &Step,
        inputs: &[Arc<State>],
        parts: &KeyParts,
        before: Option<&Record>,
    ) -> Result<Miss, StepError> {
        match step.kind {
            StepKind::Base(Base::Image(_)) => return Ok(Miss::NoRecord),
            _ if step.meta.no_cache => return Ok(Miss::Disabled),
            _ => {}
        }
        let Some(before) = before else { return Ok(Miss::NoRecord) };
        match (parts.explain(&before.parts), &step.kind) {
            (Miss::Changed { part, .. }, StepKind::Copy(copy)) if part == keys::FILES => {
                let before = self.cache.last_files(&self.slot(step))?.unwrap_or_default();
                let detail = self.with_sources(copy, step, inputs, |now, _| Ok(now.listing().difference(&before)))?;
                Ok(Miss::Changed { part, detail })
            }
            (why, _) => Ok(why),
        }
    }

    /// Remembers what `step` read, to say next time which of it changed.
    pub(super) fn remember_files(&self, step: &Step, files: &Listing) -> Result<(), StepError> {
        Ok(self.cache.remember_files(&self.slot(step), files)?)
    }

    /// What the place of `step` made before this build.
    pub(super) fn last_record(&self, step: &Step) -> Result<Option<Arc<Record>>, StepError> {
        if let Some(known) = self.before.lock().unwrap_or_else(PoisonError::into_inner).get(&step.id) {
            return Ok(known.clone());
        }
        let record = match self.cache.last(&self.slot(step))? {
            Some(key) => self.cache.lookup(key)?.map(Arc::new),
            None => None,
        };
        self.before.lock().unwrap_or_else(PoisonError::into_inner).insert(step.id, record.clone());
        Ok(record)
    }

    fn slot(&self, step: &Step) -> Slot {
        Slot::new(&self.builder.settings.slots, &step.meta.slot)
    }

    /// Notes that the place of `step` now has `key`, unless it had it before.
    fn remember(&self, step: &Step, inputs: &[Arc<State>], key: StepKey) -> Result<(), StepError> {
        let slot = self.slot(step);
        if self.cache.last(&slot)? == Some(key) {
            return Ok(());
        }
        if let StepKind::Copy(copy) = &step.kind {
            self.with_sources(copy, step, inputs, |now, _| self.remember_files(step, now.listing()))?;
        }
        Ok(self.cache.remember(&slot, key)?)
    }

    /// Records a layer whose blob is stored.
    fn keep(&self, step: &Step, inputs: &[Arc<State>], parts: KeyParts, made: Sealed) -> Result<Sealed, StepError> {
        if let Some(tree) = &made.tree {
            self.layers.keep_tree(made.layer.diff_id, tree)?;
        }
        let key = parts.key();
        self.record(parts.clone(), &made.layer)?;
        self.cache.remember(&self.slot(step), key)?;
        self.record_alike(step, inputs, parts, &made.layer)?;
        Ok(made)
    }
}

/// Says whom a step waits for, and why.
fn waiting(who: &str, why: &str) -> Message {
    Message::Event(Event::Fallback { what: format!("waiting for {who}"), why: why.to_owned() })
}

/// Tells the coordinator.
fn to(sender: &Sender<Message>) -> impl Fn(Message) {
    |message| {
        // The coordinator outlives its workers; if it is gone, nobody is interested.
        let _ = sender.send(message);
    }
}

/// A bottom of one layer.
fn context_state(layer: Layer) -> Arc<State> {
    State::base(keys::base(&[layer.diff_id]), [layer])
}

/// Ends what is in flight when its maker is done, however.
struct InFlight<'w, 'a> {
    worker: &'w Worker<'a>,
    key: StepKey,
    promise: Promise<()>,
}

impl Drop for InFlight<'_, '_> {
    fn drop(&mut self) {
        self.worker.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.promise.keep(());
    }
}
