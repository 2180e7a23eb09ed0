//! The root of one command outside a build: `kiln run`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::fs::FsError;
use crate::cache::KeyParts;
use crate::layer::{LayerWriter, WriteOptions};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::sandbox::{Rootfs, Watch, usual_targets};
use crate::snapshot::Prepared;

use super::chain::State;
use super::commit;
use super::copied_root::{Copied, Original};
use super::error::StepError;
use super::root;
use super::unpacker::Unpacker;

/// Layers of an image with an empty, writable one on top. Dropping it discards what was written.
pub(crate) struct Throwaway<'a> {
    unpacker: Unpacker<'a>,
    base: Arc<State>,
    prepared: Prepared,
    targets: PathBuf,
    original: Option<Original>,
}

impl<'a> Throwaway<'a> {
    /// Ok: `layers` (bottom first, their blobs stored) are unpacked, and a command may write over them.
    pub(crate) fn new(layers: &[Layer], unpacker: Unpacker<'a>) -> Result<Self, StepError> {
        let scratch = &unpacker.scratch;
        let targets = scratch.subdir("targets")?;
        usual_targets(&targets).map_err(|e| FsError::new("fill", &targets, e))?;
        let base = State::base(KeyParts::new().key(), layers.iter().cloned());
        let (prepared, original) = root::prepare(&base, &unpacker.snapshots, &scratch.subdir("root")?)?;
        Ok(Self { base, prepared, targets, original, unpacker })
    }

    /// The root for the sandbox.
    pub(crate) fn rootfs(&self) -> Rootfs {
        root::rootfs(&self.prepared, &self.targets)
    }

    /// The watch that a copied root needs; `None` for overlayfs.
    pub(crate) fn watch(&self) -> Result<Option<Box<dyn Watch + '_>>, StepError> {
        let copied = Copied::new(&self.prepared, self.original.as_ref())?;
        Ok(copied.map(|copied| Box::new(copied) as Box<dyn Watch>))
    }

    /// What is done differently than usual, and why.
    pub(crate) fn fallback(&self) -> Option<(&str, &str)> {
        self.unpacker.fallback()
    }

    /// Packs the changes as a layer. Ok: its blob is stored.
    pub(crate) fn pack(&self) -> Result<Layer, StepError> {
        let changed = commit::ChangedRoot::walk(&self.prepared, &self.base, self.unpacker.snapshots.layers())?;
        let changes = changed.changes(self.original.as_ref(), &self.base, &self.unpacker.snapshots, None)?;
        let mut writer = LayerWriter::new(self.unpacker.store.draft_blob()?, &WriteOptions::default());
        changes.write_to(&mut writer)?;
        let (draft, written) = writer.finish()?;
        draft.finish(written.blob, written.size)?;
        let blob = Descriptor::new(written.media_type, written.blob, written.size);
        Ok(Layer { diff_id: written.diff_id, blob })
    }
}
