//! What a command requires and was not given: said before anything runs, not when its turn comes.
//!
//! A command that is cached needs nothing, and a step whose inputs are still to be made may turn out to be cached. So
//! only those are asked that are sure to run.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::plan::{Mount, StepId, StepKind};

use super::chain::State;
use super::worker::Worker;
use super::{Error, StepError};

impl Worker<'_> {
    /// Ok: no command that is known to run lacks a required secret or agent. `states` are of the steps that were found,
    /// `missed` are those that were looked for in vain.
    pub(super) fn require(&self, states: &[Option<Arc<State>>], missed: &BTreeSet<StepId>) -> Result<(), Error> {
        let mut sure: BTreeSet<StepId> = BTreeSet::new();
        for step in self.plan.steps.iter().filter(|step| states[step.id.index()].is_none()) {
            // A step's key holds its parent's: if that is new, so is this one.
            let over_new = step
                .inputs
                .first()
                .is_some_and(|parent| sure.contains(parent) && !self.plan.step(*parent).meta.no_cache);
            let runs = missed.contains(&step.id)
                || step.meta.no_cache
                || over_new
                || self.last_record(step).map_err(|e| self.located(step.id, e))?.is_none();
            if !runs {
                continue;
            }
            sure.insert(step.id);
            if let StepKind::Run(run) = &step.kind {
                run.mounts.iter().try_for_each(|mount| self.given(mount)).map_err(|e| self.located(step.id, e))?;
            }
        }
        Ok(())
    }

    /// Ok: what `mount` shows was given, or it can do without (M-15, M-19).
    pub(super) fn given(&self, mount: &Mount) -> Result<(), StepError> {
        let (what, id, flag) = match mount {
            Mount::Secret { id, required: true, .. } if !self.builder.settings.secrets.contains_key(id) => {
                ("secret", id, format!("--secret id={id},src=FILE"))
            }
            Mount::Ssh { id, required: true, .. } if !self.builder.settings.ssh.contains_key(id) => {
                ("ssh agent", id, format!("--ssh {id}"))
            }
            _ => return Ok(()),
        };
        Err(StepError::Mount {
            target: mount.target().unwrap_or(id).to_owned(),
            why: format!("{what} {id:?} is required and was not given"),
            hint: Some(format!("give it with {flag}")),
        })
    }
}
