//! Layers made from the unpacked files of a similar layer.
//!
//! **Holds.** After an edit, a step makes a layer that differs little from the one it made before. If nobody uses the files of
//! that one, they are taken, changed where they differ, and become the files of the new layer: the same as after unpacking.
//! **On disk.** `layers/<diff-id>/similar` names the other layer. It is told about this one in turn: builds that alternate between
//! two contexts move the files back and forth.
//! **Order.** Take the files (from then on the other layer is not unpacked) → change them in scratch → rename. If anything fails,
//! or is in doubt, the layer is unpacked whole.

use std::io::{self, Read};
use std::path::Path;

use crate::base::digest::DiffId;
use crate::base::sparse::Dense;
use crate::base::unique;
use crate::layer::{Delta, Marks, SegmentIndex, parts_missing_in, patch};
use crate::oci::descriptor::Layer;

use super::Error;
use super::layers::{MARKS, SEGMENTS, SIMILAR};
use super::snapshotter::{Condition, Snapshotter};

impl Snapshotter<'_> {
    /// Makes the layer from the files of a similar one. Ok(true): it is unpacked. For the holder of the claim on the layer.
    pub(super) fn unpack_from_similar(&self, layer: &Layer) -> Result<bool, Error> {
        let diff_id = layer.diff_id;
        let Some(similar) = self.similar(diff_id)? else { return Ok(false) };
        let trees = (self.layers.known_tree(similar), self.layers.known_tree(diff_id));
        let (Some(old), Some(new)) = trees else { return Ok(false) };
        let Some(delta) = Delta::between(&old, &new) else { return Ok(false) };
        let to = self.scratch.join(unique::name(&format!("patch-{:.12}-", diff_id.hex())));
        if !self.layers.take(similar, &self.path(similar), &to)? || !self.patch(layer, similar, &delta, &to)? {
            return Ok(false);
        }
        self.adopt(diff_id, &to)?;
        self.layers.keep(similar, SIMILAR, diff_id.to_string().as_bytes())?;
        Ok(true)
    }

    /// A layer that differs little and whose files are all there.
    fn similar(&self, diff_id: DiffId) -> Result<Option<DiffId>, Error> {
        let bytes = self.layers.kept(diff_id, SIMILAR);
        let similar = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        let Some(similar) = similar.filter(|similar| *similar != diff_id) else { return Ok(None) };
        Ok((self.condition(similar)? == Condition::Whole).then_some(similar))
    }

    /// Carries out `delta` in `dest`. Ok(true): it has the files of the layer. Why it has not is said by whoever unpacks the layer.
    fn patch(&self, layer: &Layer, similar: DiffId, delta: &Delta, dest: &Path) -> Result<bool, Error> {
        let (form, limits) = (self.form(), &self.layers.limits);
        if let Some(part) = self.part_missing_in(layer, similar)
            && matches!(patch(delta, Dense(part), dest, form, limits), Ok(true))
        {
            return Ok(true);
        }
        Ok(matches!(patch(delta, self.layers.open(layer)?, dest, form, limits), Ok(true)))
    }

    /// The part of the layer's blob that the blob of the similar one does not have.
    fn part_missing_in(&self, layer: &Layer, similar: DiffId) -> Option<Box<dyn Read + Send>> {
        let index = |diff_id| SegmentIndex::from_bytes(&self.layers.kept(diff_id, SEGMENTS)?);
        let marks = Marks::from_bytes(&self.layers.kept(layer.diff_id, MARKS)?, layer.blob.digest)?;
        let ranges = parts_missing_in(&index(similar)?, &index(layer.diff_id)?, &marks);
        let mut parts = ranges.into_iter().map(|range| self.layers.part(layer, range));
        parts.try_fold(Box::new(io::empty()) as Box<dyn Read + Send>, |before, part| {
            Some(Box::new(before.chain(part?)) as _)
        })
    }
}
