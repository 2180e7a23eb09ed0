//! Runs a plan.
//!
//! **Order.** A sweep looks up all steps; what it does not find is executed; results become an image. Naming the image
//! is left to the caller.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::fs::{self, FsError};
use crate::base::watch::beside;
use crate::plan::{Plan, StepId};
use crate::sandbox::{Cancel, usual_targets};
use crate::snapshot::best;

use super::assemble::{self, Outcome, assemble};
use super::blobs::Blobs;
use super::builder::Builder;
use super::chain::State;
use super::error::Error;
use super::event::{Event, Observer};
use super::foresee::foresee;
use super::remote;
use super::required;
use super::schedule::execute;
use super::shared_mounts;
use super::storage::StorageLimit;
use super::sweep::{Reach, sweep};
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
        let blobs = Blobs::new(self);
        self.sender.during(&blobs, || self.attempts(plan, &blobs, observer))
    }

    /// Attempts until one is final.
    fn attempts(&self, plan: &Arc<Plan>, blobs: &Blobs<'_>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
        // Blobs that the store lost, or that a shared cache promised and did not give.
        let lost = || self.store.removed() + self.remotes.lost();
        let mut removed = lost();
        let mut built = self.attempt(plan, &blobs.again(self), observer);
        for _ in 0..MAX_RESTARTS {
            let is_final = matches!(built, Ok(_) | Err(Error::Cold | Error::Cancelled | Error::TimedOut(_)));
            if is_final || lost() == removed {
                break;
            }
            removed = lost();
            // The failure set the cancel flag. A signal from here on ends the process.
            let fresh = Cancel::new().map_err(|e| FsError::new("watch", self.store.root(), e))?;
            self.images.resume();
            let builder = Builder { cancel: &fresh, ..*self };
            built = builder.attempt(plan, &blobs.again(&builder), observer);
        }
        built
    }

    /// One attempt of [`Builder::build`].
    fn attempt(&self, plan: &Arc<Plan>, blobs: &Blobs<'_>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
        let worker = Worker::new(self, plan, blobs);
        let mut states: Vec<Option<Arc<State>>> = vec![None; plan.steps.len()];
        let swept = sweep(&worker, Reach::Known, &mut states, observer);
        let shares = !(self.remotes.is_empty() && self.sender.is_empty()) && matches!(swept, Ok(_) | Err(Error::Cold));
        let foreseen = shares.then(|| foresee(&worker.shared, &worker.lookup)).transpose()?;
        let missed = match &foreseen {
            Some(foreseen) if is_missing(&states) && !self.remotes.is_empty() => {
                match remote::image(&worker.shared, foreseen, observer)? {
                    Some(outcome) => return remote::name_sources(&worker.shared, outcome),
                    None => {
                        swept?;
                        remote::ask_for_steps(&worker.shared, foreseen, &states);
                        sweep(&worker, Reach::Anywhere, &mut states, observer)?
                    }
                }
            }
            _ => swept?,
        };
        let (grows, mut fits) = (is_missing(&states), true);
        if grows {
            fits = self.execute_missing(&worker, &mut states, &missed, observer)?;
        }
        let states: Vec<Arc<State>> = states.into_iter().flatten().collect();
        let mut outcome = assemble(self.store, plan, &states)?;
        outcome.grew = grows && fits;
        if outcome.layers.len() > PORTABLE_LAYERS {
            observer.event(&Event::ManyLayers { layers: outcome.layers.len(), portable: PORTABLE_LAYERS });
        }
        if let Some(foreseen) = &foreseen {
            remote::send_all(&worker.shared, &worker.lookup, foreseen, &states, &outcome)?;
            outcome = remote::name_sources(&worker.shared, outcome)?;
            worker.shared.records().keep_taken()?;
        }
        Ok(outcome)
    }

    /// Executes the steps that have no state. Ok: all have one; whether the store is within its limit.
    fn execute_missing(
        &self,
        worker: &Worker<'_>,
        states: &mut [Option<Arc<State>>],
        missed: &BTreeSet<StepId>,
        observer: &mut dyn Observer,
    ) -> Result<bool, Error> {
        if self.settings.warm_only {
            return Err(Error::Cold);
        }
        worker.shared.lease(states)?;
        let fits = match self.settings.storage_limit {
            Some(bytes) => {
                let (store, began) = (self.store, self.settings.began);
                StorageLimit { store, bytes, began, cancel: self.cancel }.enforce(observer)?
            }
            None => true,
        };
        required::check_all(&worker.shared, &worker.lookup.history, states, missed)?;
        self.choose_snapshotter(worker, observer)?;
        let wanted = remote::wanted(&worker.shared, states)?;
        let executed = std::thread::scope(|scope| {
            if !wanted.is_empty() {
                scope.spawn(|| remote::fetch_ahead(&worker.shared, &wanted));
            }
            beside(self.cancel, None, |_| self.images.cancel(), || execute(worker, states, observer))
        });
        let executed = executed.map_err(|e| FsError::new("watch", self.store.root(), e))?;
        if executed.is_err() {
            // Before `finish` moves directories that the command's root may use as lower directories.
            worker.commands.show_failed(&worker.shared)?;
        }
        worker.finish()?;
        executed?;
        shared_mounts::send_all(&worker.shared, observer);
        Ok(fits)
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

fn is_missing(states: &[Option<Arc<State>>]) -> bool {
    states.iter().any(Option::is_none)
}
