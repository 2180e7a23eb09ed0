//! Recognising the result of a step although what it builds on was made another way.
//!
//! **Holds.** A step's own key names its parent by the parent's key: it says how everything below was made. A second key
//! names the parent by what it is, the digests of its layers (`keys::base`), so that a step that was done again and left
//! the same layer stops the chain: what builds on it is found (N-9). For `COPY --link` the second key says only which
//! directories it passes through (N-7).
//! **Order.** The second key is looked up after the first, and a result found there gets the first key too. What builds on
//! a RUN whose layer is still being packed waits for it only if that layer can turn out to be the one its place made
//! before, and nothing else of the step changed: its entries, without digests, are those of the earlier layer.
//! A cold build has no earlier layer, so it never waits. Second keys of such steps are recorded when the build ends.

use std::sync::{Arc, PoisonError};

use crate::base::stable::StableHasher;
use crate::cache::{KeyParts, Miss, Record};
use crate::layer::{MergedTree, RelPath};
use crate::oci::descriptor::Layer;
use crate::plan::{Copy, Step, StepKind};

use super::chain::State;
use super::worker::Worker;
use super::{Error, StepError, keys};

/// The part of a linked COPY that stands for what it needs to know of its parent.
const PASSED: &str = "directories it passes through";

/// A step's second key, for when its parent is packed.
pub(super) struct Later {
    parent: Arc<State>,
    parts: KeyParts,
    layer: Layer,
}

impl Worker<'_> {
    /// The layer that the same step made over something that looks the same. Ok(Some): the next lookup of `parts` finds it.
    pub(super) fn recorded_alike(
        &self,
        step: &Step,
        inputs: &[Arc<State>],
        parts: &KeyParts,
    ) -> Result<Option<Layer>, StepError> {
        let Some(parent) = inputs.first() else { return Ok(None) };
        if parent.content_key().is_none() && !self.is_worth_waiting(step, parent, parts)? {
            return Ok(None);
        }
        let Some(alike) = self.alike(step, parent, parts)? else { return Ok(None) };
        let Some(layer) = self.recorded(&alike)? else { return Ok(None) };
        self.record(parts.clone(), &layer)?;
        Ok(Some(layer))
    }

    /// Records `layer` under the second key too, now or when that is known.
    pub(super) fn record_alike(
        &self,
        step: &Step,
        inputs: &[Arc<State>],
        parts: KeyParts,
        layer: &Layer,
    ) -> Result<(), StepError> {
        let Some(parent) = inputs.first() else { return Ok(()) };
        if linked(step).is_some() || parent.content_key().is_some() {
            if let Some(alike) = self.alike(step, parent, &parts)? {
                self.record(alike, layer)?;
            }
            return Ok(());
        }
        let later = Later { parent: Arc::clone(parent), parts, layer: layer.clone() };
        self.later.lock().unwrap_or_else(PoisonError::into_inner).push(later);
        Ok(())
    }

    /// Records what [`Worker::record_alike`] put off, when no step runs any more.
    pub(super) fn record_later(&self) -> Result<(), Error> {
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        for Later { parent, parts, layer } in later {
            if let Some(alike) = over_content(&parent, &parts) {
                self.record(alike, &layer)?;
            }
        }
        Ok(())
    }

    /// The second key; none if it is the first. Waits for layers that are being packed.
    fn alike(&self, step: &Step, parent: &State, parts: &KeyParts) -> Result<Option<KeyParts>, StepError> {
        if let Some(copy) = linked(step) {
            let mut hasher = StableHasher::new("kiln.passed.v1");
            for dir in passed(copy, &*parent.outline(&self.layers)?) {
                hasher.field("directory", dir.as_bytes());
            }
            return Ok(Some(parts.replace(keys::PARENT, PASSED, hasher.finish())));
        }
        parent.layers()?;
        Ok(over_content(parent, parts))
    }

    /// Nothing but the parent of `step` changed since its place was built last, and the parent may still turn out the same.
    fn is_worth_waiting(&self, step: &Step, parent: &State, parts: &KeyParts) -> Result<bool, StepError> {
        if linked(step).is_some() {
            return Ok(true);
        }
        let Some(before) = self.last_record(step)? else { return Ok(false) };
        Ok(parts.explain(&before.parts) == Miss::Parent && parent.may_be_as_before(&self.layers)?)
    }

    /// Records `layer` under `parts`.
    pub(super) fn record(&self, parts: KeyParts, layer: &Layer) -> Result<(), Error> {
        let blobs = [(self.builder.settings.compression.method(), layer.blob.clone())].into();
        Ok(self.cache.record(&Record { parts, diff_id: layer.diff_id, blobs })?)
    }
}

fn over_content(parent: &State, parts: &KeyParts) -> Option<KeyParts> {
    let key = parent.content_key()?;
    (key != parent.key).then(|| parts.replace(keys::PARENT, keys::PARENT, key.0))
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
    let there = dirs.iter().take_while(|dir| tree.get(dir).is_some_and(|found| found.is_dir())).count();
    dirs.truncate(there);
    dirs
}
