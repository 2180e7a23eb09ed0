//! Required secrets and agents: a missing one is an error before anything runs, not when its step is reached.
//!
//! A cached command needs none, and a step whose inputs are still to be made may turn out to be cached. So only steps that
//! are sure to run are checked.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::plan::{Mount, StepId, StepKind};

use super::chain::State;
use super::error::{Error, StepError};
use super::history::History;
use super::input::Input;
use super::settings::Settings;
use super::shared::Shared;

/// Ok: no command that is sure to run lacks a required secret or agent. `states` are the results that were found,
/// `missed` the steps that were looked up in vain.
pub(super) fn check_all(
    shared: &Shared<'_>,
    history: &History,
    states: &[Option<Arc<State>>],
    missed: &BTreeSet<StepId>,
) -> Result<(), Error> {
    let mut sure: BTreeSet<StepId> = BTreeSet::new();
    for step in shared.plan.steps.iter().filter(|step| states[step.id.index()].is_none()) {
        let located = |e| shared.located(step.id, e);
        // A step's key contains its parent's: if that is new, so is this one.
        let over_new =
            step.inputs.first().is_some_and(|parent| sure.contains(parent) && !shared.plan.step(*parent).meta.no_cache);
        let runs = missed.contains(&step.id)
            || step.meta.no_cache
            || over_new
            || history.record(shared, step).map_err(located)?.is_none();
        if !runs {
            continue;
        }
        sure.insert(step.id);
        if let StepKind::Run(run) = &step.kind {
            run.mounts.iter().try_for_each(|mount| check(shared.builder.settings, mount)).map_err(located)?;
        }
    }
    Ok(())
}

/// Ok: what `mount` shows was given, or is optional (M-15, M-19).
pub(super) fn check(settings: &Settings, mount: &Mount) -> Result<(), StepError> {
    let input = match mount {
        Mount::Secret { id, required: true, .. } if !settings.secrets.contains_key(id) => Input::Secret(id.clone()),
        Mount::Ssh { id, required: true, .. } if !settings.ssh.contains_key(id) => Input::Agent(id.clone()),
        _ => return Ok(()),
    };
    let target = mount.target().unwrap_or(input.id()).to_owned();
    Err(StepError::NotGiven { target, input })
}
