//! COPY, ADD, WORKDIR and contexts.

use std::path::Path;
use std::sync::Arc;

use crate::base::digest::Sha256;
use crate::plan::{ContextName, Copy, Mount, Step, Workdir};

use super::StepError;
use super::builder::Context;
use super::chain::{Sealed, State};
use super::worker::{Look, Worker};

impl Worker<'_> {
    pub(super) fn copy_digest(&self, _copy: &Copy, _step: &Step, _inputs: &[Arc<State>]) -> Result<Sha256, StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn copy(&self, _step: &Step, _copy: &Copy, _inputs: &[Arc<State>]) -> Result<Sealed, StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn workdir(&self, _step: &Step, _workdir: &Workdir, _parent: &Arc<State>) -> Result<Sealed, StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn context_digest(&self, _name: &ContextName, _source: &str) -> Result<Sha256, StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn context(&self, _name: &ContextName) -> Result<&Context, StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn hide_ignored(&self, _context: &Context, _source: &str, _hidden: &Path) -> Result<bool, StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn seed(
        &self,
        _mount: &Mount,
        _data: &Path,
        _step: &Step,
        _inputs: &[Arc<State>],
    ) -> Result<(), StepError> {
        Err(StepError::Unready("COPY"))
    }
    pub(super) fn look_up_context(&self, _name: &ContextName) -> Result<Look, StepError> {
        Err(StepError::Unready("COPY"))
    }
}
