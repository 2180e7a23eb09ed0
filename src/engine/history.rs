//! What the slot of each step produced in the previous build.
//!
//! **Holds.** A slot is a step's place in the Dockerfile. Its previous record explains a miss, and the previous layer's
//! compressed bytes are reused for the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::digest::StepKey;
use crate::cache::{Listing, Record, Slot};
use crate::plan::{Step, StepId};

use super::error::StepError;
use super::shared::Shared;

/// The records of the previous build, as far as they were read.
#[derive(Default)]
pub(super) struct History {
    records: Mutex<BTreeMap<StepId, Option<Arc<Record>>>>,
}

impl History {
    /// What the slot of `step` produced before this build.
    pub(super) fn record(&self, shared: &Shared<'_>, step: &Step) -> Result<Option<Arc<Record>>, StepError> {
        if let Some(known) = self.records.lock().unwrap_or_else(PoisonError::into_inner).get(&step.id) {
            return Ok(known.clone());
        }
        let record = match shared.slots.key(&slot(shared, step)) {
            Some(key) => shared.cache.get(key)?.map(Arc::new),
            None => None,
        };
        self.records.lock().unwrap_or_else(PoisonError::into_inner).insert(step.id, record.clone());
        Ok(record)
    }
}

/// The key that the slot of `step` had in the previous build.
pub(super) fn last_key(shared: &Shared<'_>, step: &Step) -> Option<StepKey> {
    shared.slots.key(&slot(shared, step))
}

/// Notes that the slot of `step` has `key` now.
pub(super) fn note_key(shared: &Shared<'_>, step: &Step, key: StepKey) -> Result<(), StepError> {
    Ok(shared.slots.set_key(&slot(shared, step), key)?)
}

/// The files that the slot of `step` read in the previous build.
pub(super) fn last_files(shared: &Shared<'_>, step: &Step) -> Option<Listing> {
    shared.slots.files(&slot(shared, step))
}

/// Notes the files that `step` reads.
pub(super) fn note_files(shared: &Shared<'_>, step: &Step, files: &Listing) -> Result<(), StepError> {
    Ok(shared.slots.set_files(&slot(shared, step), files)?)
}

/// The files that a part of the key of `step` stood for in the previous build.
pub(super) fn last_part(shared: &Shared<'_>, step: &Step, part: &str) -> Option<Listing> {
    shared.slots.files(&slot_of_part(shared, step, part))
}

/// Notes the files that a part of the key of `step` stands for.
pub(super) fn note_part(shared: &Shared<'_>, step: &Step, part: &str, files: &Listing) -> Result<(), StepError> {
    Ok(shared.slots.set_files(&slot_of_part(shared, step, part), files)?)
}

fn slot_of_part(shared: &Shared<'_>, step: &Step, part: &str) -> Slot {
    Slot::new(&shared.builder.settings.slots, &format!("{} {part}", step.meta.slot))
}

fn slot(shared: &Shared<'_>, step: &Step) -> Slot {
    Slot::new(&shared.builder.settings.slots, &step.meta.slot)
}
