//! Which steps of a plan would run, and why.
//!
//! **Holds.** Nothing is executed, unpacked or recorded. Steps are looked up as a build does; over a step that would run, the
//! reasons follow from what the instruction and the contexts say.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cache::remote::EntryName;
use crate::cache::{KeyParts, Miss, step_key};
use crate::plan::{Base, Copy, CopyFrom, Mount, Plan, Step, StepId, StepKind};

use super::base;
use super::blobs::Blobs;
use super::builder::Builder;
use super::chain::State;
use super::error::{Error, StepError};
use super::event::{Event, Observer};
use super::foresee::{Foreseen, foresee, without_layers};
use super::lookup::{LookupResult, Question};
use super::remote;
use super::sources::StepFiles;
use super::sweep::{Reach, sweep};
use super::task::Task;
use super::worker::Worker;

/// What would happen to one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// The step.
    pub(crate) step: StepId,
    /// Whether it would run.
    pub(crate) verdict: Verdict,
    /// Why; nothing for a cached step.
    pub(crate) reasons: Vec<Reason>,
    /// Shared caches that were asked and do not have it.
    pub(crate) absent: Vec<String>,
}

/// Whether a step would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its result is stored, or in this shared cache.
    Cached(Option<String>),
    /// It would run.
    Runs,
    /// It depends on files that other steps would make.
    Depends,
}

/// Why a step would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It differs from the previous build, or there was none.
    Miss(Miss),
    /// The layers of the base image are not in the store.
    NotFetched,
    /// The step below would run, or may.
    Parent(StepId),
    /// Its key needs files of this step.
    Files(StepId),
}

impl Builder<'_> {
    /// Explains every step of `plan`. The settings say `explain_only`.
    pub(crate) fn explain(&self, plan: &Arc<Plan>) -> Result<Vec<Explanation>, Error> {
        let blobs = Blobs::new(self);
        let worker = Worker::new(self, plan, &blobs);
        let mut states: Vec<Option<Arc<State>>> = vec![None; plan.steps.len()];
        if self.remotes.is_empty() {
            let _ = worker.shared.late_bases.set(unread_bases(plan));
        }
        sweep(&worker, Reach::Known, &mut states, &mut Unheard)?;
        let foreseen = foresee(&worker.shared, &worker.lookup)?;
        if !self.remotes.is_empty() && states.iter().any(Option::is_none) {
            if let Some((name, _)) = remote::whole(&worker.shared, &foreseen)? {
                let found = self.remotes.found_in(&name);
                return Ok(plan.steps.iter().map(|step| cached(step.id, found.clone())).collect());
            }
            remote::ask_for_steps(&worker.shared, &foreseen, &states);
            sweep(&worker, Reach::Anywhere, &mut states, &mut Unheard)?;
        }
        Explain { worker: &worker, found: &states, foreseen: &foreseen, states: Vec::new(), done: Vec::new() }.run()
    }
}

/// The base images whose files no key depends on: steps over them are looked up whether or not their layers are stored.
fn unread_bases(plan: &Plan) -> BTreeSet<StepId> {
    if plan.steps.iter().any(Step::is_linked) {
        return BTreeSet::new();
    }
    let read: BTreeSet<StepId> = plan.steps.iter().flat_map(Step::sources).collect();
    plan.steps.iter().map(|step| step.id).filter(|id| !read.contains(id)).collect()
}

/// Looking steps up is not reported.
struct Unheard;

impl Observer for Unheard {
    fn event(&mut self, _: &Event) {}
}

fn cached(step: StepId, found: Option<String>) -> Explanation {
    Explanation { step, verdict: Verdict::Cached(found), reasons: Vec::new(), absent: Vec::new() }
}

struct Explain<'s, 'a> {
    worker: &'s Worker<'a>,
    /// What the cache has.
    found: &'s [Option<Arc<State>>],
    foreseen: &'s Foreseen,
    /// The states of the steps so far, without layers for those that would run.
    states: Vec<Arc<State>>,
    done: Vec<Explanation>,
}

impl Explain<'_, '_> {
    fn run(mut self) -> Result<Vec<Explanation>, Error> {
        let shared = &self.worker.shared;
        for step in &shared.plan.steps {
            let inputs: Vec<Arc<State>> = step.inputs.iter().map(|id| Arc::clone(&self.states[id.index()])).collect();
            let task = Task { step, inputs: &inputs };
            let explained = match &self.found[step.id.index()] {
                Some(state) => self.found(task, state).map(|found| (found, Arc::clone(state))),
                None => self.step(task),
            };
            let (explanation, state) = explained.map_err(|error| shared.located(step.id, error))?;
            self.done.push(explanation);
            self.states.push(state);
        }
        Ok(self.done)
    }

    /// A step whose result is known.
    fn found(&self, task: Task<'_>, state: &State) -> Result<Explanation, StepError> {
        let (shared, step) = (&self.worker.shared, task.step);
        if let StepKind::Base(Base::Image(request)) = &step.kind
            && shared.builder.remotes.is_empty()
            && base::image(shared, request)?.is_none()
        {
            let (reasons, absent) = (vec![Reason::NotFetched], Vec::new());
            return Ok(Explanation { step: step.id, verdict: Verdict::Runs, reasons, absent });
        }
        Ok(cached(step.id, self.found_in(task, state)?))
    }

    /// The shared cache that has the result of a step, if the store does not.
    fn found_in(&self, task: Task<'_>, state: &State) -> Result<Option<String>, StepError> {
        let Worker { shared, lookup, .. } = self.worker;
        let remotes = shared.builder.remotes;
        if remotes.is_empty() || matches!(task.step.kind, StepKind::Base(_)) {
            return Ok(None);
        }
        if let Some(found) = remotes.found_in(&EntryName::Step(state.key)) {
            return Ok(Some(found));
        }
        Ok(lookup.second_name(shared, task)?.and_then(|name| remotes.found_in(&name)))
    }

    /// A step that was not found, and what stands for its state.
    fn step(&self, task: Task<'_>) -> Result<(Explanation, Arc<State>), StepError> {
        let (shared, step) = (&self.worker.shared, task.step);
        let fixed = step.inputs.iter().all(|id| self.found[id.index()].is_some());
        let exact = if fixed { self.parts(task, StepFiles::Content)? } else { None };
        let known = exact.is_some();
        let Some(parts) = exact.map_or_else(|| self.parts(task, StepFiles::Key), |parts| Ok(Some(parts)))? else {
            return Err(Error::Cold.into());
        };
        let key = parts.key();
        let state = match &step.kind {
            StepKind::Base(Base::Image(request)) => base::image_state(base::resolved(shared, request)),
            _ => without_layers(task, key),
        };
        let mut reasons = self.own_reasons(task, &parts, known)?;
        let certain = !reasons.is_empty();
        let open = sources(step).into_iter().map(|(id, _)| id).filter(|id| !self.is_cached(*id) || (fixed && !known));
        reasons.extend(open.map(Reason::Files));
        let parent = step.inputs.first().filter(|parent| !self.is_cached(**parent));
        reasons.extend(parent.map(|parent| Reason::Parent(*parent)));
        let below = parent.is_some_and(|parent| self.done[parent.index()].verdict == Verdict::Runs);
        // A linked COPY does not depend on the files below it.
        let verdict = if certain || (below && !step.is_linked()) { Verdict::Runs } else { Verdict::Depends };
        let name = if known { Some(key) } else { self.foreseen.keys[step.id.index()] };
        let absent = name.map(|key| shared.builder.remotes.lacking(&EntryName::Step(key))).unwrap_or_default();
        Ok((Explanation { step: step.id, verdict, reasons, absent }, state))
    }

    /// The parts of a step's key. `None`: they depend on files that are not at hand.
    fn parts(&self, task: Task<'_>, files: StepFiles) -> Result<Option<KeyParts>, StepError> {
        match self.worker.lookup.question(&self.worker.shared, task, files) {
            Ok(Question::Key(parts) | Question::Answered(LookupResult::Miss(parts))) => Ok(Some(parts)),
            Ok(Question::Answered(LookupResult::Hit(_))) | Err(StepError::Build(Error::Cold)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why a step would run, whatever the steps that it depends on do. `known`: its parts do not depend on them.
    fn own_reasons(&self, task: Task<'_>, parts: &KeyParts, known: bool) -> Result<Vec<Reason>, StepError> {
        let Worker { shared, lookup, .. } = self.worker;
        if matches!(task.step.kind, StepKind::Base(Base::Image(_))) {
            return Ok(vec![Reason::NotFetched]);
        }
        let from = if known { StepFiles::Content } else { StepFiles::Key };
        let before = lookup.history.record(shared, task.step)?;
        let mut reasons = lookup.explain(shared, task, parts, before.as_deref(), from)?;
        if !known {
            let open = sources(task.step);
            reasons.retain(|reason| match reason {
                Miss::Changed { part, .. } => open.iter().all(|(_, of_step)| of_step != part),
                Miss::Parent | Miss::Lost => false,
                _ => true,
            });
        }
        // Where it was looked for is said apart.
        let apart = |reason| match reason {
            Miss::NoRecord { .. } => Miss::NoRecord { absent: Vec::new() },
            other => other,
        };
        Ok(reasons.into_iter().map(|reason| Reason::Miss(apart(reason))).collect())
    }

    fn is_cached(&self, id: StepId) -> bool {
        self.found[id.index()].is_some()
    }
}

/// The steps whose files are in the key of `step`, with the parts made of them.
fn sources(step: &Step) -> Vec<(StepId, String)> {
    match &step.kind {
        StepKind::Copy(Copy { from: CopyFrom::Step(id), .. }) => vec![(*id, step_key::FILES.to_owned())],
        StepKind::Run(run) => {
            let part = |mount: &Mount| match mount {
                Mount::Bind { from: CopyFrom::Step(id), target, .. } => Some((*id, step_key::files_of_mount(target))),
                _ => None,
            };
            run.mounts.iter().filter_map(part).collect()
        }
        _ => Vec::new(),
    }
}
