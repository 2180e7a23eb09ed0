//! Looks up all steps before any of them runs: a fully cached build ends here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::fs::FsError;
use crate::base::watch::{Ended, beside};
use crate::cache::remote::EntryName;
use crate::plan::{Step, StepId};

use super::chain::State;
use super::error::{Error, StepError};
use super::event::{Event, Observer};
use super::lookup::{LookupResult, Question};
use super::sources::StepFiles;
use super::task::Task;
use super::worker::Worker;

/// Where a sweep looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// In the store, and in what shared caches have answered.
    Known,
    /// Shared caches are asked, too.
    Anywhere,
}

/// Looks up every step whose inputs were found, in order; returns the steps that were not found. The build's time limit
/// covers requests to servers.
pub(super) fn sweep(
    worker: &Worker<'_>,
    reach: Reach,
    states: &mut [Option<Arc<State>>],
    observer: &mut dyn Observer,
) -> Result<BTreeSet<StepId>, Error> {
    let (builder, cancel) = (worker.shared.builder, worker.shared.stop);
    let sweep = Sweep { worker, reach, states, observer, missed: BTreeSet::new() };
    let Some(limit) = builder.settings.timeout else { return sweep.run() };
    let late = AtomicBool::new(false);
    let end = |why| {
        late.store(why == Ended::TimedOut, Ordering::Relaxed);
        cancel.cancel();
    };
    let swept = beside(cancel, Some(limit), end, || sweep.run());
    match swept.map_err(|e| FsError::new("watch", builder.store.root(), e))? {
        // No time is left to execute missing steps.
        _ if late.load(Ordering::Relaxed) => Err(Error::TimedOut(limit)),
        swept => swept,
    }
}

/// A running sweep.
struct Sweep<'s, 'a> {
    worker: &'s Worker<'a>,
    reach: Reach,
    states: &'s mut [Option<Arc<State>>],
    observer: &'s mut dyn Observer,
    missed: BTreeSet<StepId>,
}

/// A step of a wave: its inputs, and what is known of it.
type Asked<'p> = (&'p Step, Vec<Arc<State>>, Result<Question, StepError>);

impl Sweep<'_, '_> {
    fn run(mut self) -> Result<BTreeSet<StepId>, Error> {
        let steps = &self.worker.shared.plan.steps;
        let mut next = 0;
        while next < steps.len() {
            let (wave, asked) = self.wave(&steps[next..]);
            self.answer(asked)?;
            next += wave;
        }
        Ok(self.missed)
    }

    /// The first of `steps` that do not need each other, with their keys; and how many steps were examined.
    fn wave<'p>(&self, steps: &'p [Step]) -> (usize, Vec<Asked<'p>>) {
        let (mut examined, mut asked) = (0, Vec::new());
        let mut pending: BTreeSet<StepId> = BTreeSet::new();
        for step in steps {
            if step.inputs.iter().any(|input| pending.contains(input)) {
                break;
            }
            examined += 1;
            if self.states[step.id.index()].is_some() {
                continue;
            }
            let inputs: Option<Vec<Arc<State>>> = step.inputs.iter().map(|i| self.states[i.index()].clone()).collect();
            let Some(inputs) = inputs else { continue };
            let question = self.question(Task { step, inputs: &inputs });
            let failed = question.is_err();
            pending.insert(step.id);
            asked.push((step, inputs, question));
            if failed {
                break;
            }
        }
        (examined, asked)
    }

    fn question(&self, task: Task<'_>) -> Result<Question, StepError> {
        let Worker { lookup, shared, .. } = self.worker;
        match lookup.by_layers(shared, task)? {
            Some(state) => Ok(Question::Answered(LookupResult::Hit(state))),
            None => lookup.question(shared, task, StepFiles::Content),
        }
    }

    /// Looks up the keys of a wave.
    fn answer(&mut self, asked: Vec<Asked<'_>>) -> Result<(), Error> {
        let (lookup, shared) = (&self.worker.lookup, &self.worker.shared);
        if self.reach == Reach::Anywhere {
            // Keys on results that were found in shared caches could not be known before.
            let names = asked.iter().filter_map(|(.., question)| match question {
                Ok(Question::Key(parts)) => Some(EntryName::Step(parts.key())),
                _ => None,
            });
            shared.builder.remotes.ask(&names.collect::<Vec<_>>());
        }
        for (step, inputs, question) in asked {
            let task = Task { step, inputs: &inputs };
            let look = question.and_then(|question| match question {
                Question::Answered(look) => Ok(look),
                Question::Key(parts) => {
                    let found = shared.records().layer_anywhere(&parts, shared.terms(task))?;
                    lookup.answer(shared, task, parts, found)
                }
            });
            match look {
                Ok(LookupResult::Hit(state)) => {
                    self.states[step.id.index()] = Some(state);
                    self.observer.event(&Event::Cached(step.id));
                }
                // Its key needs files of layers, which a sweep does not unpack.
                Err(StepError::Build(Error::Cold)) if !shared.builder.settings.warm_only => {}
                Err(error) => return Err(shared.located(step.id, error)),
                Ok(LookupResult::Miss(_)) if shared.builder.settings.warm_only => return Err(Error::Cold),
                Ok(LookupResult::Miss(_)) => drop(self.missed.insert(step.id)),
            }
        }
        Ok(())
    }
}
