//! Finds the result of a step whose parent was rebuilt with equal layers (early cutoff).
//!
//! **Holds.** The first key of a step contains its parent's key, that is, how everything below was made. The second key
//! contains the digests of the parent's layers instead. A step that runs again and produces the same layer thus ends a
//! chain of misses: the steps above it are found (N-9). For `COPY --link`, the second key contains only the directories
//! that its destination passes through (N-7).
//! **Order.** The second key is looked up after the first; a hit is recorded under the first key too. The parent's
//! layers may still be being packed. A step waits for them only if it may be a hit: nothing but the parent changed, and
//! those layers have the entries of the previous build. A first build has no previous one, so it never waits. Second
//! keys that are unknown when a step is done are recorded at the end of the build.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::{KeyParts, Made, Miss, step_key};
use crate::layer::{MergedTree, RelPath};
use crate::oci::descriptor::Layer;
use crate::plan::{Copy, Step, StepKind};

use super::chain::State;
use super::error::{Error, StepError};
use super::history::History;
use super::records::Records;
use super::shared::Shared;
use super::task::Task;

/// Results whose second keys are recorded once the layers below are packed.
#[derive(Default)]
pub(super) struct SecondKeys {
    later: Mutex<Vec<Later>>,
}

/// A result whose second key is not known yet.
struct Later {
    parent: Arc<State>,
    parts: KeyParts,
    layer: Layer,
    made: Made,
}

impl SecondKeys {
    /// Records `layer` under the second key of the step, now or once it is known. Then the first record also says over which
    /// layers it was made.
    pub(super) fn record(
        &self,
        shared: &Shared<'_>,
        task: Task<'_>,
        parts: KeyParts,
        layer: &Layer,
        made: Made,
    ) -> Result<(), StepError> {
        let Some(parent) = task.inputs.first() else { return Ok(()) };
        if linked(task.step).is_some() || parent.content_key().is_some() {
            if let Some(second) = second(shared, task.step, parent, &parts)? {
                shared.records().keep(second, layer, made)?;
            }
            return Ok(());
        }
        let later = Later { parent: Arc::clone(parent), parts, layer: layer.clone(), made };
        self.later.lock().unwrap_or_else(PoisonError::into_inner).push(later);
        Ok(())
    }

    /// Records what [`SecondKeys::record`] delayed. To be called when no step runs.
    pub(super) fn finish(&self, records: Records<'_>) -> Result<(), Error> {
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        for Later { parent, parts, layer, made } in later {
            let made = Made { below: parent.identity(), ..made };
            if let Some(second) = over_content(&parent, &parts) {
                records.keep(second, &layer, made)?;
            }
            records.keep(parts, &layer, made)?;
        }
        Ok(())
    }
}

/// The layer recorded under the second key of the step with these `parts`. Ok(Some): now also recorded under the first.
pub(super) fn look_up(
    shared: &Shared<'_>,
    history: &History,
    task: Task<'_>,
    parts: &KeyParts,
) -> Result<Option<Layer>, StepError> {
    let Some(parent) = task.inputs.first() else { return Ok(None) };
    if parent.content_key().is_none() && !is_worth_waiting(shared, history, task.step, parent, parts)? {
        return Ok(None);
    }
    let Some(second) = second(shared, task.step, parent, parts)? else { return Ok(None) };
    let Some((layer, made)) = shared.records().layer(second.key(), shared.terms(task))? else { return Ok(None) };
    shared.records().keep(parts.clone(), &layer, made)?;
    Ok(Some(layer))
}

/// The parts of the second key; `None` if it equals the first. Waits for layers being packed.
fn second(shared: &Shared<'_>, step: &Step, parent: &State, parts: &KeyParts) -> Result<Option<KeyParts>, StepError> {
    if let Some(copy) = linked(step) {
        let dirs = passed(copy, &*parent.outline(&shared.layers)?);
        return Ok(Some(step_key::over_directories(parts, dirs.iter().map(RelPath::as_bytes))));
    }
    parent.layers()?;
    Ok(over_content(parent, parts))
}

/// Whether only the parent of `step` changed since the previous build, and may still turn out equal.
fn is_worth_waiting(
    shared: &Shared<'_>,
    history: &History,
    step: &Step,
    parent: &State,
    parts: &KeyParts,
) -> Result<bool, StepError> {
    if linked(step).is_some() {
        return Ok(true);
    }
    let Some(before) = history.record(shared, step)? else { return Ok(false) };
    Ok(parts.explain(&before.parts) == [Miss::Parent] && parent.may_be_as_before(&shared.layers)?)
}

fn over_content(parent: &State, parts: &KeyParts) -> Option<KeyParts> {
    let key = parent.content_key()?;
    (key != parent.key).then(|| step_key::over_parent(parts, key))
}

fn linked(step: &Step) -> Option<&Copy> {
    match &step.kind {
        StepKind::Copy(copy) if copy.link => Some(copy),
        _ => None,
    }
}

/// The directories of `tree` on the way to the destination of a linked COPY, itself included. Links are not followed.
pub(super) fn passed(copy: &Copy, tree: &MergedTree) -> Vec<RelPath> {
    let Ok(dest) = RelPath::parse(copy.dest.as_bytes()) else { return Vec::new() };
    let mut dirs: Vec<RelPath> = std::iter::successors(Some(dest), RelPath::parent).collect();
    dirs.retain(|dir| !dir.is_root());
    dirs.reverse();
    let existing = dirs.iter().take_while(|dir| tree.get(dir).is_some_and(|found| found.is_dir())).count();
    dirs.truncate(existing);
    dirs
}
