//! A layer that is read while its blob arrives, so that it need not be decompressed a second time.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::claim::Claim;
use crate::base::sparse::SparseRead;
use crate::layer::{self, Tree};
use crate::oci::descriptor::Layer;

use super::Error;
use super::snapshotter::{Condition, Snapshotter};

/// How layers are read while they arrive.
#[derive(Clone, Copy)]
pub(crate) struct Arrivals<'s> {
    /// Where they are unpacked.
    pub(crate) snapshots: &'s Snapshotter<'s>,
    /// Whether their files are wanted; otherwise they are only listed.
    pub(crate) files: bool,
}

/// The right to read a layer while its blob arrives.
pub(crate) struct Arriving<'s> {
    snapshots: &'s Snapshotter<'s>,
    layer: Layer,
    /// Where its files go; `None`: only its tree is wanted.
    to: Option<PathBuf>,
    _claim: Claim,
}

impl<'s> Arrivals<'s> {
    /// Begins to read a layer whose blob is about to arrive. `None`: that was done, or another process does it.
    pub(crate) fn begin(&self, layer: &Layer) -> Result<Option<Arriving<'s>>, Error> {
        let snapshots = self.snapshots;
        snapshots.layers().keep_dir(layer.diff_id)?;
        // Nobody waits here: the holder of the claim may wait for this download.
        let Some(claim) = snapshots.layers().try_claim(layer.diff_id)? else { return Ok(None) };
        let known = match self.files {
            true => snapshots.condition(layer.diff_id)? != Condition::Missing,
            false => snapshots.layers().known_tree(layer.diff_id).is_some(),
        };
        if known {
            return Ok(None);
        }
        let to = self.files.then(|| snapshots.unpack_dir(layer)).transpose()?;
        Ok(Some(Arriving { snapshots, layer: layer.clone(), to, _claim: claim }))
    }
}

impl Arriving<'_> {
    /// What reads the blob, in any thread. Ok: it is the layer.
    pub(crate) fn reader(
        &self,
    ) -> impl FnOnce(Box<dyn SparseRead + Send>) -> Result<Tree, layer::Error> + Send + 'static + use<> {
        let (to, diff_id, form) = (self.to.clone(), self.layer.diff_id, self.snapshots.form());
        let limits = self.snapshots.layers().limits.clone();
        move |blob| match to {
            Some(to) => layer::unpack_within(blob, &to, diff_id, form, &limits),
            None => layer::read_tree_within(blob, diff_id, &limits),
        }
    }

    /// Keeps what the reader made, once the blob is verified.
    pub(crate) fn arrived(self, tree: Tree) -> Result<(), Error> {
        self.snapshots.layers().keep_tree(self.layer.diff_id, &Arc::new(tree))?;
        match &self.to {
            Some(to) => self.snapshots.adopt(self.layer.diff_id, to),
            None => Ok(()),
        }
    }
}
