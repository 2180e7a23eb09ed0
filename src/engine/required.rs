//! Checks required secrets and agents before any step runs.
//!
//! Only steps that are certain to run are checked: a cached command needs no secret, and a step with missing inputs may
//! still turn out to be cached.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::plan::{Mount, StepId, StepKind};

use super::chain::State;
use super::error::{Error, StepError};
use super::history::History;
use super::input::Input;
use super::settings::Settings;
use super::shared::Shared;

/// Ok: no command that is certain to run lacks a required secret or agent. `states` are the results that were found,
/// `missed` the steps whose lookup missed.
pub(super) fn check_all(
    shared: &Shared<'_>,
    history: &History,
    states: &[Option<Arc<State>>],
    missed: &BTreeSet<StepId>,
) -> Result<(), Error> {
    let mut certain: BTreeSet<StepId> = BTreeSet::new();
    for step in shared.plan.steps.iter().filter(|step| states[step.id.index()].is_none()) {
        let located = |e| shared.located(step.id, e);
        // A step's key contains its parent's: if that is new, so is this one.
        let is_new = |parent: &StepId| certain.contains(parent) && !shared.plan.step(*parent).meta.no_cache;
        let over_new = step.inputs.first().is_some_and(is_new);
        let runs = missed.contains(&step.id)
            || step.meta.no_cache
            || over_new
            || history.record(shared, step).map_err(located)?.is_none();
        if !runs {
            continue;
        }
        certain.insert(step.id);
        if let StepKind::Run(run) = &step.kind {
            run.mounts.iter().try_for_each(|mount| check(shared.builder.settings, mount)).map_err(located)?;
        }
    }
    Ok(())
}

/// Ok: the secret or agent of `mount` was passed, or is optional (M-15, M-19).
pub(super) fn check(settings: &Settings, mount: &Mount) -> Result<(), StepError> {
    let input = match mount {
        Mount::Secret { id, required: true, .. } if !settings.secrets.contains_key(id) => Input::Secret(id.clone()),
        Mount::Ssh { id, required: true, .. } if !settings.ssh.contains_key(id) => Input::Agent(id.clone()),
        _ => return Ok(()),
    };
    let target = mount.target().unwrap_or(input.id()).to_owned();
    Err(StepError::NotGiven { target, input })
}
