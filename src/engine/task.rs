//! A step and the results of the steps it needs.

use std::sync::Arc;

use crate::plan::{Step, StepId};

use super::chain::State;

/// A step whose inputs are done.
#[derive(Clone, Copy)]
pub(super) struct Task<'t> {
    /// The step.
    pub(super) step: &'t Step,
    /// The results of `step.inputs`, in the same order.
    pub(super) inputs: &'t [Arc<State>],
}

impl<'t> Task<'t> {
    /// The file system that the step changes. Panics for a base, which has none.
    pub(super) fn parent(&self) -> &'t Arc<State> {
        &self.inputs[0]
    }

    /// The result of input `id`.
    pub(super) fn input(&self, id: StepId) -> &'t Arc<State> {
        let at = self.step.inputs.iter().position(|&input| input == id);
        &self.inputs[at.expect("the plan lists every step that is read as an input")]
    }
}
