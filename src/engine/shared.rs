//! State that all steps of a build share: store, cache, snapshots, scratch space.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::base::fs;
use crate::cache::{Local, Slots};
use crate::oci::blob::BlobSink as _;
use crate::plan::{ContextName, Plan, Step, StepId};
use crate::sandbox::Cancel;
use crate::snapshot::{Layers, Method, Snapshotter};
use crate::store::Scratch;

use super::blobs::Blobs;
use super::builder::{Builder, Context};
use super::chain::State;
use super::error::{Error, StepError};
use super::message::Reporter;
use super::records::{Records, Taken, Terms};
use super::task::Task;
use super::used_mounts::Used;

/// The parts of a build that every step uses.
pub(super) struct Shared<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) plan: &'a Plan,
    pub(super) blobs: &'a Blobs<'a>,
    /// What was found in shared caches.
    pub(super) taken: Taken,
    /// Cache mounts that shared caches want.
    pub(super) used_mounts: Used,
    /// Base images whose files may be fetched late, because steps over them were found in a shared cache.
    pub(super) late_bases: OnceLock<BTreeSet<StepId>>,
    pub(super) layers: Arc<Layers<'a>>,
    /// Set before steps run.
    snapshotter: OnceLock<Snapshotter<'a>>,
    pub(super) cache: Local,
    pub(super) slots: Slots,
    pub(super) stop: &'a Cancel,
    /// Set when steps run.
    reporter: Arc<OnceLock<Reporter>>,
    /// Made on first use: a fully cached build needs none, and works on a read-only store.
    scratch: OnceLock<Scratch>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(builder: &'a Builder<'a>, plan: &'a Plan, blobs: &'a Blobs<'a>) -> Self {
        let reporter: Arc<OnceLock<Reporter>> = Arc::default();
        let waits = Arc::clone(&reporter);
        let tell = move |who: &str, why: &str| {
            if let Some(reporter) = waits.get() {
                reporter.fallback(format!("waiting for {who}"), why);
            }
        };
        let dir = builder.store.root().join("cache");
        Self {
            builder,
            plan,
            blobs,
            taken: Taken::default(),
            used_mounts: Used::default(),
            late_bases: OnceLock::new(),
            layers: Arc::new(
                Layers::new(builder.store.layers_dir(), builder.store.claims(), blobs)
                    .until(builder.cancel)
                    .telling(tell)
                    .noticing(builder.store.notices())
                    .kept_by(|dir| builder.store.keep_dir(dir))
                    .taken_by(|dir, part, to| builder.store.take(dir, part, to)),
            ),
            snapshotter: OnceLock::new(),
            cache: Local::new(&dir).with_notices(builder.store.notices()),
            slots: Slots::new(&dir),
            stop: builder.cancel,
            reporter,
            scratch: OnceLock::new(),
        }
    }

    /// Sets the reporter of the steps that run from here on.
    pub(super) fn report_to(&self, reporter: &Reporter) {
        let _ = self.reporter.set(reporter.clone());
    }

    /// The recorded layers.
    pub(super) fn records(&self) -> Records<'_> {
        let Builder { store, remotes, settings, .. } = *self.builder;
        let (compression, read_only) = (settings.compression, settings.explain_only);
        Records { local: &self.cache, remotes, store, blobs: self.blobs, taken: &self.taken, compression, read_only }
    }

    /// What a recorded result must be to answer `task`.
    pub(super) fn terms<'t>(&self, task: Task<'t>) -> Terms<'t> {
        Terms::of(task.step, task.inputs.first(), self.builder.settings.began)
    }

    /// Lets other processes remove what this build does not use. The layers of `found` count as used.
    pub(super) fn lease(&self, found: &[Option<Arc<State>>]) -> Result<(), Error> {
        let moment = self.builder.store.lease()?;
        for state in found.iter().flatten() {
            for layer in state.layers()? {
                let store = self.builder.store;
                store.has(&layer.blob).map_err(crate::store::Error::from)?;
                store.keep(&store.layers_dir().join(layer.diff_id.hex()))?;
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
        // If another thread was faster, this one is dropped, which removes it.
        Ok(self.scratch.get_or_init(|| made).path())
    }

    /// An empty directory of `step` in scratch.
    pub(super) fn scratch_dir(&self, step: &Step, purpose: &str) -> Result<PathBuf, StepError> {
        let path = self.scratch()?.join(format!("{}-{purpose}", step.id.0));
        fs::create_dir(&path, 0o755)?;
        Ok(path)
    }

    /// Roots are made by `method` from here on.
    pub(super) fn use_method(&self, method: Method) -> Result<(), Error> {
        let snapshotter = Snapshotter::new(Arc::clone(&self.layers), method, self.scratch()?);
        self.snapshotter.get_or_init(|| snapshotter);
        Ok(())
    }

    /// The snapshotter, which unpacks layers. [`Error::Cold`] while steps are only looked up: nothing is unpacked then.
    pub(super) fn snapshots(&self) -> Result<&Snapshotter<'a>, Error> {
        self.snapshotter.get().ok_or(Error::Cold)
    }

    /// The layer with the mount targets that all commands share.
    pub(super) fn usual_targets(&self) -> Result<PathBuf, Error> {
        Ok(self.scratch()?.join("targets"))
    }

    /// The context called `name`.
    pub(super) fn context(&self, name: &ContextName) -> &'a Context {
        self.builder.contexts.get(name).expect("every context of a plan was opened")
    }

    /// Names the step in which `error` happened. After a cancellation every error is a consequence of that.
    pub(super) fn located(&self, step: StepId, error: StepError) -> Error {
        if self.stop.is_cancelled() {
            return Error::Cancelled;
        }
        match error {
            StepError::Build(e @ (Error::Stopped | Error::Cancelled | Error::Cold)) => e,
            StepError::Sandbox(crate::sandbox::Error::Cancelled) => Error::Cancelled,
            source => Error::Step { step, name: self.plan.step(step).meta.name.clone(), source: Box::new(source) },
        }
    }
}
