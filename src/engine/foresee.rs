//! The keys of steps whose inputs are not there: to ask shared caches for all of them at once.
//!
//! **Holds.** A key is exact if it follows from the instructions and contexts alone. Of a step that reads files of another one,
//! only a substitute is known, made of that step's key; it names the build as a whole, and nothing else.

use std::sync::Arc;

use crate::base::stable::StableHasher;
use crate::cache::remote::EntryName;
use crate::cache::{StepKey, step_key};
use crate::oci::manifest::InvalidDocument;
use crate::plan::{Base, StepKind};

use super::assemble;
use super::base;
use super::chain::{Link, State};
use super::error::{Error, StepError};
use super::lookup::{Lookup, LookupResult, Question};
use super::shared::Shared;
use super::sources::StepFiles;
use super::task::Task;

/// What is known of a build before its steps are.
pub(super) struct Foreseen {
    /// By step: its key, if that is exact.
    pub(super) keys: Vec<Option<StepKey>>,
    /// The key of the whole build; `None` if some step must run in any case.
    pub(super) root: Option<StepKey>,
    /// Whether steps may be too old, which the image of a whole build does not tell.
    ages: bool,
}

impl Foreseen {
    /// The entry that answers the whole build at once.
    pub(super) fn image(&self) -> Option<EntryName> {
        self.root.filter(|_| !self.ages).map(EntryName::Root)
    }
}

/// Computes the keys. A step whose source files cannot be read ends it: executing the step explains why.
pub(super) fn foresee<'a>(shared: &Shared<'a>, lookup: &Lookup<'a>) -> Result<Foreseen, Error> {
    let plan = shared.plan;
    let mut states: Vec<Arc<State>> = Vec::with_capacity(plan.steps.len());
    let mut keys: Vec<Option<StepKey>> = Vec::with_capacity(plan.steps.len());
    let mut whole = true;
    let ages = plan.steps.iter().any(|step| step.meta.max_age.is_some());
    for step in &plan.steps {
        let inputs: Vec<Arc<State>> = step.inputs.iter().map(|input| Arc::clone(&states[input.index()])).collect();
        let Ok((state, exact)) = assumed(shared, lookup, Task { step, inputs: &inputs }) else {
            keys.resize(plan.steps.len(), None);
            return Ok(Foreseen { keys, root: None, ages });
        };
        whole &= !step.meta.no_cache;
        let parent = step.inputs.first().is_none_or(|parent| keys[parent.index()].is_some());
        keys.push((exact && parent).then_some(state.key));
        states.push(state);
    }
    let root = whole.then(|| root(shared, states[plan.target_stage().last.index()].key)).transpose()?;
    Ok(Foreseen { keys, root, ages })
}

/// What stands for a step with this key whose layers are not known.
pub(super) fn without_layers(task: Task<'_>, key: StepKey) -> Arc<State> {
    match task.inputs.first() {
        Some(parent) => State::over(parent, key, Link::packing(None, None).0),
        None => State::base(key, []),
    }
}

/// The state of a step without its layers, and whether its key is exact, if that of its parent is.
fn assumed<'a>(shared: &Shared<'a>, lookup: &Lookup<'a>, task: Task<'_>) -> Result<(Arc<State>, bool), StepError> {
    let step = task.step;
    if let StepKind::Base(Base::Image(request)) = &step.kind {
        return Ok((base::image_state(base::resolved(shared, request)), true));
    }
    let parts = match lookup.question(shared, task, StepFiles::Key)? {
        Question::Answered(LookupResult::Hit(state)) => return Ok((state, true)),
        Question::Answered(LookupResult::Miss(parts)) | Question::Key(parts) => parts,
    };
    // Over a step without a parent, keys follow from its layer.
    let exact = !task.inputs.is_empty() && step.sources().is_empty();
    Ok((without_layers(task, parts.key()), exact))
}

/// The key of the whole build: its files, by the key of the last step, and its config.
fn root(shared: &Shared<'_>, last: StepKey) -> Result<StepKey, InvalidDocument> {
    let mut hasher = StableHasher::new("kiln.root.v1");
    hasher.field("last step", last.hex().as_bytes());
    hasher.field("compression", shared.builder.settings.compression.method().as_bytes());
    hasher.field("config", &assemble::blank_config(shared.plan)?);
    if let Some(base) = &shared.plan.target_stage().base {
        // Equal layers may have been compressed otherwise.
        hasher.field("base", base::resolved(shared, base).manifest.digest.to_string().as_bytes());
    }
    Ok(step_key::whole(hasher.finish()))
}
