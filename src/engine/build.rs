//! Runs a plan.
//!
//! **Order.** A sweep looks up all steps; what it does not find is executed; results become an image. Naming the image
//! is left to the caller.

use std::sync::Arc;

use crate::base::fs::{self, FsError};
use crate::base::watch::beside;
use crate::plan::Plan;
use crate::sandbox::{Cancel, usual_targets};
use crate::snapshot::best;

use super::assemble::{self, Outcome, assemble};
use super::builder::Builder;
use super::chain::State;
use super::error::Error;
use super::event::{Event, Observer};
use super::required;
use super::schedule::execute;
use super::storage::StorageLimit;
use super::sweep::sweep;
use super::worker::Worker;

/// Docker's overlay2 driver stacks no more layers.
const PORTABLE_LAYERS: usize = 127;

/// How often a build starts again after a stored blob turned out to be damaged.
const MAX_RESTARTS: usize = 8;

impl Builder<'_> {
    /// Runs `plan`. Ok: the image's manifest, config and every layer are stored; no name points at it yet.
    ///
    /// If the build fails, its finished steps stay recorded, and the next build finds them. If it fails because a
    /// stored blob turned out to be damaged when it was read, the blob is removed and the build starts again.
    pub(crate) fn build(&self, plan: &Arc<Plan>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
        observer.event(&Event::Planned(Arc::clone(plan)));
        assemble::check(plan)?;
        let mut removed = self.store.removed();
        let mut built = self.attempt(plan, observer);
        for _ in 0..MAX_RESTARTS {
            let is_final = matches!(built, Ok(_) | Err(Error::Cold | Error::Cancelled | Error::TimedOut(_)));
            if is_final || self.store.removed() == removed {
                break;
            }
            removed = self.store.removed();
            // The failure set the cancel flag. A signal from here on ends the process.
            let fresh = Cancel::new().map_err(|e| FsError::new("watch", self.store.root(), e))?;
            self.images.resume();
            built = Builder { cancel: &fresh, ..*self }.attempt(plan, observer);
        }
        built
    }

    /// One attempt of [`Builder::build`].
    fn attempt(&self, plan: &Arc<Plan>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
        let worker = Worker::new(self, plan);
        let mut states: Vec<Option<Arc<State>>> = vec![None; plan.steps.len()];
        let missed = sweep(&worker, &mut states, observer)?;
        let (grows, mut fits) = (states.iter().any(Option::is_none), true);
        if grows {
            if self.settings.warm_only {
                return Err(Error::Cold);
            }
            worker.shared.lease(&states)?;
            if let Some(bytes) = self.settings.storage_limit {
                let (store, began) = (self.store, self.settings.began);
                fits = StorageLimit { store, bytes, began, cancel: self.cancel }.enforce(observer)?;
            }
            required::check_all(&worker.shared, &worker.lookup.history, &states, &missed)?;
            self.choose_snapshotter(&worker, observer)?;
            let executed =
                beside(self.cancel, None, |_| self.images.cancel(), || execute(&worker, &mut states, observer));
            let executed = executed.map_err(|e| FsError::new("watch", self.store.root(), e))?;
            if executed.is_err() {
                // Before `finish` moves directories that the command's root may use as lower directories.
                worker.commands.show_failed(&worker.shared)?;
            }
            worker.finish()?;
            executed?;
        }
        let states: Vec<Arc<State>> = states.into_iter().flatten().collect();
        let mut outcome = assemble(self.store, plan, &states)?;
        outcome.grew = grows && fits;
        if outcome.layers > PORTABLE_LAYERS {
            observer.event(&Event::ManyLayers { layers: outcome.layers, portable: PORTABLE_LAYERS });
        }
        Ok(outcome)
    }

    /// Chooses how roots are made, and reports it if it is not overlayfs. Ok: commands can have roots.
    fn choose_snapshotter(&self, worker: &Worker<'_>, observer: &mut dyn Observer) -> Result<(), Error> {
        let scratch = worker.shared.scratch()?;
        let method = self.settings.snapshot.unwrap_or_else(|| {
            let (method, why) = best(self.settings.user_namespace, scratch);
            if let Some(why) = why {
                let what = "layers are copied for every RUN instead of stacked".to_owned();
                observer.event(&Event::Fallback { what, why: format!("overlayfs: {why}") });
            }
            method
        });
        worker.shared.use_method(method)?;
        let targets = worker.shared.usual_targets()?;
        fs::create_dir(&targets, 0o755)?;
        Ok(usual_targets(&targets).map_err(|e| FsError::new("fill", &targets, e))?)
    }
}
