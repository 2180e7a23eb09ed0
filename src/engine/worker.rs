//! Performs one step: looks it up; on a miss, executes and records it.
//!
//! **Order.** Key, lookup, execution, blob, tree, record. A RUN is ready for its dependents when its command has ended;
//! its layer is packed while they run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::base::digest::DiffId;
use crate::cache::{KeyParts, Record};
use crate::layer::Leftovers;
use crate::plan::{Base, Plan, Run, StepKind};

use super::base;
use super::blobs::Blobs;
use super::builder::Builder;
use super::chain::{Link, Sealed, State, Stopped};
use super::claims::{self, InFlight};
use super::commit::{self, ChangedRoot};
use super::copy;
use super::error::{Error, StepError};
use super::event::Event;
use super::lookup::{Lookup, LookupResult};
use super::message::Reporter;
use super::remote;
use super::run::Commands;
use super::second_key::SecondKeys;
use super::shared::Shared;
use super::sources::StepFiles;
use super::task::Task;

/// State that the step threads of one build share.
pub(super) struct Worker<'a> {
    pub(super) shared: Shared<'a>,
    pub(super) lookup: Lookup<'a>,
    pub(super) commands: Commands,
    second: SecondKeys,
    in_flight: InFlight,
    /// Upper directories of RUNs with their layers: they become unpacked layers once no command mounts them.
    fresh: Mutex<Vec<(DiffId, PathBuf, Leftovers)>>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(builder: &'a Builder<'a>, plan: &'a Plan, blobs: &'a Blobs<'a>) -> Self {
        Self {
            shared: Shared::new(builder, plan, blobs),
            lookup: Lookup::default(),
            commands: Commands::new(),
            second: SecondKeys::default(),
            in_flight: InFlight::default(),
            fresh: Mutex::default(),
        }
    }

    /// Performs a step and reports its progress. The last message is `Done`.
    pub(super) fn work(&self, task: Task<'_>, reporter: &Reporter) {
        reporter.done(task.step.id, self.perform(task, reporter));
    }

    fn perform(&self, task: Task<'_>, reporter: &Reporter) -> Result<(), StepError> {
        let step = task.step;
        loop {
            let parts = match self.lookup.look_up(&self.shared, task)? {
                LookupResult::Hit(state) => {
                    reporter.event(Event::Cached(step.id));
                    reporter.ready(step.id, &state);
                    return Ok(());
                }
                LookupResult::Miss(parts) => parts,
            };
            let key = parts.key();
            // The step that had the key may have failed, or run with another cache setting: look again.
            let Some(_turn) = self.in_flight.claim(key) else { continue };
            if self.shared.stop.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            // A step that ignores the cache need not wait for other processes.
            if step.meta.no_cache {
                return self.make(task, parts, reporter);
            }
            let claim = claims::among_processes(&self.shared, key, reporter)?;
            if self.lookup.is_there(&self.shared, task, &parts)? {
                continue;
            }
            let made = self.make(task, parts, reporter);
            if let (Err(_), Some(claim)) = (&made, claim)
                && !self.shared.stop.is_cancelled()
            {
                claim.failed();
            }
            return made;
        }
    }

    /// Executes a step and records its result.
    fn make(&self, task: Task<'_>, parts: KeyParts, reporter: &Reporter) -> Result<(), StepError> {
        let (shared, history, step) = (&self.shared, &self.lookup.history, task.step);
        let before = history.record(shared, step)?;
        let why = self.lookup.explain(shared, task, &parts, before.as_deref(), StepFiles::Content)?;
        let why = why.into_iter().next().expect("there is at least one reason");
        reporter.event(Event::Started { step: step.id, why });
        let began = Instant::now();
        let finished = |state: &Arc<State>| {
            reporter.event(Event::Finished { step: step.id, took: began.elapsed() });
            reporter.ready(step.id, state);
        };
        let key = parts.key();
        let record = |made: &Sealed| self.record(task, &parts, made, reporter);
        match &step.kind {
            StepKind::Base(Base::Scratch) => unreachable!("an empty file system is always a hit"),
            StepKind::Base(Base::Image(request)) => {
                finished(&base::fetch_image(shared, step, request, reporter)?);
            }
            StepKind::Base(Base::Context(name)) => {
                let made = base::context(shared, history, name, step, reporter)?;
                record(&made)?;
                finished(&base::context_state(made.layer));
            }
            StepKind::Run(run) => self.run(run, task, &parts, before.as_deref(), reporter, &finished)?,
            StepKind::Copy(plan) => {
                let made = copy::copy(shared, &self.lookup.sources, history, plan, task, reporter)?;
                record(&made)?;
                finished(&State::over(task.parent(), key, Link::made(made)));
            }
            StepKind::Workdir(plan) => {
                let made = copy::workdir(shared, history, plan, task, reporter)?;
                record(&made)?;
                finished(&State::over(task.parent(), key, Link::made(made)));
            }
        }
        Ok(())
    }

    fn record(&self, task: Task<'_>, parts: &KeyParts, made: &Sealed, reporter: &Reporter) -> Result<(), StepError> {
        commit::record(&self.shared, &self.second, task, parts.clone(), made)?;
        remote::send_step(&self.shared, &self.lookup, task, parts, &made.layer)?;
        reporter.event(Event::Stored { step: task.step.id, layer: Box::new(made.layer.blob.clone()) });
        Ok(())
    }

    /// Executes a RUN. Calls `finished` when the command has ended, then packs and records its layer.
    fn run(
        &self,
        run: &Run,
        task: Task<'_>,
        parts: &KeyParts,
        before: Option<&Record>,
        reporter: &Reporter,
        finished: &dyn Fn(&Arc<State>),
    ) -> Result<(), StepError> {
        let shared = &self.shared;
        let ran = self.commands.run(shared, run, task, reporter)?;
        let changed = ChangedRoot::walk(&ran.prepared, task.parent(), &shared.layers)?;
        let (link, packing) = Link::packing(ran.prepared.fresh(), before.map(|before| before.diff_id));
        finished(&State::over(task.parent(), parts.key(), link));
        let changed = (changed, ran.original.as_ref());
        let packed = commit::pack(shared, &self.lookup.history, task, changed, &packing, reporter)
            .and_then(|(made, more)| self.record(task, parts, &made, reporter).map(|()| (made, more)));
        let packed = packed.map(|(made, more)| {
            if let Some(fresh) = ran.prepared.fresh() {
                let mut all = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((made.layer.diff_id, fresh, more));
            }
            made
        });
        packing.sealed.keep(packed.as_ref().map(Clone::clone).map_err(|_| Stopped));
        // If packing failed before the entries were known, this ends the wait for them.
        packing.outline.keep(Err(Stopped));
        packed.map(drop)
    }

    /// Records delayed second keys and keeps upper directories as unpacked layers. To be called when no step runs. A
    /// layer whose directory cannot be kept is unpacked again when needed.
    pub(super) fn finish(&self) -> Result<(), Error> {
        self.second.finish(self.shared.records())?;
        self.shared.records().keep_taken()?;
        for (diff_id, made, more) in self.fresh.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if matches!(more.remove(), Ok(true)) {
                self.shared.snapshots()?.adopt(diff_id, &made)?;
            }
        }
        Ok(())
    }
}
