//! Owns the parts and the loop.
//!
//! **Order.** First a sweep over all steps in order that only looks up keys: a fully cached build ends there, without a
//! thread, a namespace or an unpacked layer. What missed then runs, as wide as the graph and `jobs` allow.
//! The coordinator (the thread that called `build`) is the only one that starts steps and calls the observer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::base::fs::{self, FsError};
use crate::context::Dir;
use crate::plan::{ContextName, ImageRequest, Plan, StepId};
use crate::sandbox::{Cancel, Spec, usual_targets};
use crate::snapshot::best;
use crate::store::Store;

use super::chain::State;
use super::event::{Event, Observer};
use super::images::{BaseImage, ImageSource};
use super::outcome::{self, Outcome, assemble};
use super::schedule::Schedule;
use super::settings::Settings;
use super::worker::{Look, Worker};
use super::{Error, StepError};
use crate::base::watch::{Ended, beside};
use crate::device::Devices;

/// Docker's overlay2 driver stacks no more.
const PORTABLE_LAYERS: usize = 127;

/// A directory that steps may read, and how to read it.
pub struct Context {
    /// The files, ignore rules applied.
    pub tree: Dir,
    /// Where they are, for bind mounts.
    pub dir: PathBuf,
}

/// How often a build begins again because something stored turned out to be damaged.
const ROUNDS: usize = 8;

/// Everything a build needs besides its plan.
#[derive(Clone, Copy)]
pub struct Builder<'a> {
    /// Where blobs, layers, records and tags are.
    pub store: &'a Store,
    /// Where base images come from.
    pub images: &'a dyn ImageSource,
    /// The images the plan names, as resolved.
    pub bases: &'a BTreeMap<ImageRequest, BaseImage>,
    /// The devices the plan names, as found on this host.
    pub devices: &'a Devices,
    /// The contexts the plan names.
    pub contexts: &'a BTreeMap<ContextName, Context>,
    /// How to build.
    pub settings: &'a Settings,
    /// Set to stop everything.
    pub cancel: &'a Cancel,
    /// Called with the first command that failed, when nothing runs any more and before its files are discarded: what it
    /// is given runs in the same place.
    pub on_failure: Option<&'a OnFailure<'a>>,
}

/// Runs something in the place of the command that failed.
pub type OnFailure<'a> = dyn Fn(StepId, &Spec) + Sync + 'a;

/// What workers tell the coordinator.
pub(super) enum Message {
    /// Pass this on.
    Event(Event),
    /// The step's files are there: what depends on it may start.
    Ready(StepId, Arc<State>),
    /// The step's thread is done with everything.
    Done(Result<(), (StepId, StepError)>),
}

/// How far the coordinator is.
struct Progress<'s> {
    schedule: Schedule,
    /// Threads that have not said `Done`.
    running: usize,
    /// Why the build fails, if it does.
    failed: Option<Error>,
    /// What was said to be done another way; many steps find the same.
    fallbacks: BTreeSet<(String, String)>,
    states: &'s mut [Option<Arc<State>>],
}

impl Builder<'_> {
    /// Runs `plan`. Ok: the image's manifest, config and every layer are stored; no name points at it yet.
    ///
    /// Nothing of a build that fails is lost: finished steps are recorded and the next build finds them. If it fails
    /// because a stored blob was damaged, which only reading shows, the blob is gone, and the build makes it again.
    pub fn build(&self, plan: &Arc<Plan>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
        observer.event(&Event::Planned(Arc::clone(plan)));
        outcome::check(plan)?;
        let mut removed = self.store.removed();
        let mut built = self.attempt(plan, observer);
        for _ in 0..ROUNDS {
            let given_up = matches!(built, Ok(_) | Err(Error::Cold | Error::Cancelled | Error::TimedOut(_)));
            if given_up || self.store.removed() == removed {
                break;
            }
            removed = self.store.removed();
            // What failed set the flag; a signal that comes from here on ends the process.
            let fresh = Cancel::new().map_err(|e| FsError::new("watch", self.store.root(), e))?;
            self.images.resume();
            built = Builder { cancel: &fresh, ..*self }.attempt(plan, observer);
        }
        built
    }

    /// One round of [`Builder::build`].
    fn attempt(&self, plan: &Arc<Plan>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
        let worker = Worker::new(self, plan);
        let mut states: Vec<Option<Arc<State>>> = vec![None; plan.steps.len()];
        let missed = self.sweep_in_time(&worker, &mut states, observer)?;
        if states.iter().any(Option::is_none) {
            if self.settings.warm_only {
                return Err(Error::Cold);
            }
            worker.lease(&states)?;
            worker.require(&states, &missed)?;
            self.settle(&worker, observer)?;
            let executed =
                beside(self.cancel, None, |_| self.images.cancel(), || self.execute(&worker, &mut states, observer));
            let executed = executed.map_err(|e| FsError::new("watch", self.store.root(), e))?;
            if executed.is_err() {
                // Its root may stand on directories that are to be adopted.
                worker.show_remains()?;
            }
            worker.adopt()?;
            executed?;
        }
        let states: Vec<Arc<State>> = states.into_iter().flatten().collect();
        let outcome = assemble(self.store, plan, &states)?;
        if outcome.layers > PORTABLE_LAYERS {
            let count = outcome.layers;
            observer.event(&Event::Warning(format!(
                "the image has {count} layers; Docker stacks at most {PORTABLE_LAYERS}: join RUN instructions with &&"
            )));
        }
        Ok(outcome)
    }

    /// [`Builder::sweep`], which may have to ask servers, in the time that the build is given.
    fn sweep_in_time(
        &self,
        worker: &Worker<'_>,
        states: &mut [Option<Arc<State>>],
        observer: &mut dyn Observer,
    ) -> Result<BTreeSet<StepId>, Error> {
        let Some(limit) = self.settings.timeout else { return self.sweep(worker, states, observer) };
        let late = AtomicBool::new(false);
        let end = |why| {
            late.store(why == Ended::TimedOut, Ordering::Relaxed);
            self.cancel.cancel();
        };
        let swept = beside(self.cancel, Some(limit), end, || self.sweep(worker, states, observer));
        match swept.map_err(|e| FsError::new("watch", self.store.root(), e))? {
            // What it did not find cannot be made any more.
            _ if late.load(Ordering::Relaxed) => Err(Error::TimedOut(limit)),
            swept => swept,
        }
    }

    /// Looks up every step whose inputs are all there, in order; gives those that are not there.
    fn sweep(
        &self,
        worker: &Worker<'_>,
        states: &mut [Option<Arc<State>>],
        observer: &mut dyn Observer,
    ) -> Result<BTreeSet<StepId>, Error> {
        let mut missed = BTreeSet::new();
        for step in &worker.plan.steps {
            let inputs: Option<Vec<Arc<State>>> = step.inputs.iter().map(|i| states[i.index()].clone()).collect();
            let Some(inputs) = inputs else { continue };
            let look = match worker.look_up(step, &inputs) {
                // To know its key, files of a layer must be unpacked: not in a sweep.
                Err(StepError::Build(Error::Cold)) if !self.settings.warm_only => continue,
                other => other.map_err(|e| worker.located(step.id, e))?,
            };
            if let Look::Hit(state) = look {
                states[step.id.index()] = Some(state);
                observer.event(&Event::Cached(step.id));
            } else if self.settings.warm_only {
                return Err(Error::Cold);
            } else {
                missed.insert(step.id);
            }
        }
        Ok(missed)
    }

    /// Chooses how roots are made, and says so if it is not the usual way. Ok: commands can have roots.
    fn settle(&self, worker: &Worker<'_>, observer: &mut dyn Observer) -> Result<(), Error> {
        let scratch = worker.scratch()?;
        let method = self.settings.snapshot.unwrap_or_else(|| {
            let (method, why) = best(self.settings.user_namespace, scratch);
            if let Some(why) = why {
                let what = "layers are copied for every RUN instead of stacked".to_owned();
                observer.event(&Event::Fallback { what, why: format!("overlayfs: {why}") });
            }
            method
        });
        worker.layers.settle(method, scratch);
        let targets = worker.usual_targets()?;
        fs::create_dir(&targets, 0o755)?;
        Ok(usual_targets(&targets).map_err(|e| FsError::new("fill", &targets, e))?)
    }

    /// Runs what the sweep did not find.
    fn execute(
        &self,
        worker: &Worker<'_>,
        states: &mut [Option<Arc<State>>],
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let inputs: Vec<Vec<usize>> =
            worker.plan.steps.iter().map(|s| s.inputs.iter().map(|i| i.index()).collect()).collect();
        let mut run =
            Progress { schedule: Schedule::new(&inputs), running: 0, failed: None, fallbacks: BTreeSet::new(), states };
        // Bounded: a command that writes faster than the observer reads is slowed down, not buffered.
        let (sender, messages) = bounded(64);
        let _ = worker.coordinator.set(sender.clone());
        let deadline = self.settings.timeout.map(|limit| (Instant::now() + limit, limit));
        std::thread::scope(|scope| {
            while !run.schedule.finished() || run.running > 0 {
                while run.failed.is_none()
                    && run.running < self.settings.jobs
                    && let Some(step) = run.schedule.take()
                {
                    if run.states[step].is_some() {
                        run.schedule.done(step);
                        continue;
                    }
                    let step = &worker.plan.steps[step];
                    let inputs: Vec<Arc<State>> =
                        step.inputs.iter().filter_map(|i| run.states[i.index()].clone()).collect();
                    let sender: Sender<Message> = sender.clone();
                    run.running += 1;
                    scope.spawn(move || worker.work(step, &inputs, &sender));
                }
                if run.running == 0 {
                    // Either everything is done or a failure keeps the rest from starting.
                    break;
                }
                let message = match deadline.filter(|_| run.failed.is_none()) {
                    Some((at, limit)) => messages.recv_deadline(at).map_err(|_| limit),
                    None => messages.recv().map_err(|_| Duration::ZERO),
                };
                match message {
                    Ok(message) => self.take(message, &mut run, worker, observer),
                    Err(limit) => self.fail(&mut run.failed, Error::TimedOut(limit)),
                }
            }
        });
        run.failed.map_or(Ok(()), Err)
    }

    /// Takes one message.
    fn take(&self, message: Message, run: &mut Progress<'_>, worker: &Worker<'_>, observer: &mut dyn Observer) {
        match message {
            Message::Event(Event::Fallback { what, why }) => {
                if run.fallbacks.insert((what.clone(), why.clone())) {
                    observer.event(&Event::Fallback { what, why });
                }
            }
            Message::Event(event) => observer.event(&event),
            Message::Ready(step, state) => {
                run.states[step.index()] = Some(state);
                run.schedule.done(step.index());
            }
            Message::Done(result) => {
                run.running -= 1;
                if let Err((step, error)) = result {
                    observer.event(&Event::Failed(step));
                    let error = worker.located(step, error);
                    self.fail(&mut run.failed, error);
                }
            }
        }
    }

    /// Notes why the build fails and stops everything.
    fn fail(&self, failed: &mut Option<Error>, error: Error) {
        // A consequence of another failure must not hide it.
        let consequence = |e: &Error| matches!(e, Error::Cancelled | Error::Stopped);
        if failed.as_ref().is_none_or(|before| consequence(before) && !consequence(&error)) {
            *failed = Some(error);
        }
        self.cancel.cancel();
        self.images.cancel();
    }
}
