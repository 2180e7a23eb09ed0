//! The root of one command outside a build: `kiln run`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::fs::FsError;
use crate::cache::KeyParts;
use crate::layer::{LayerWriter, WriteOptions};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::sandbox::{Rootfs, Watch, usual_targets};
use crate::snapshot::{Layers, Method, Prepared, Snapshotter, best};
use crate::store::{Scratch, Store};

use super::chain::State;
use super::commit;
use super::copied_root::{Copied, Original};
use super::error::StepError;
use super::root;

/// Layers of an image with an empty, writable one on top. Dropping it discards what was written.
pub(crate) struct Throwaway<'a> {
    store: &'a Store,
    snapshots: Snapshotter<'a>,
    base: Arc<State>,
    prepared: Prepared,
    targets: PathBuf,
    original: Option<Original>,
    fallback: Option<(String, String)>,
    _scratch: Scratch,
}

impl<'a> Throwaway<'a> {
    /// Ok: `layers` (bottom first, their blobs stored) are unpacked, and a command may write over them.
    /// Without `method`, they are stacked if the host can. `tell` receives the holder and the reason of each wait.
    pub(crate) fn new(
        store: &'a Store,
        layers: &[Layer],
        user_namespace: bool,
        method: Option<Method>,
        tell: impl Fn(&str, &str) + Send + Sync + 'a,
    ) -> Result<Self, StepError> {
        let scratch = store.scratch()?;
        let (method, why) = method.map_or_else(|| best(user_namespace, scratch.path()), |method| (method, None));
        let what = "layers are copied instead of stacked".to_owned();
        let fallback = why.map(|why| (what, format!("overlayfs: {why}")));
        let known = Layers::new(store.layers_dir(), store.claims(), store)
            .telling(tell)
            .noticing(store.notices())
            .kept_by(|dir| store.keep_dir(dir));
        let snapshots = Snapshotter::new(Arc::new(known), method, scratch.path());
        let targets = scratch.subdir("targets")?;
        usual_targets(&targets).map_err(|e| FsError::new("fill", &targets, e))?;
        let base = State::base(KeyParts::new().key(), layers.iter().cloned());
        let (prepared, original) = root::prepare(&base, &snapshots, &scratch.subdir("root")?)?;
        Ok(Self { store, snapshots, base, prepared, targets, original, fallback, _scratch: scratch })
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
        self.fallback.as_ref().map(|(what, why)| (what.as_str(), why.as_str()))
    }

    /// Packs the changes as a layer. Ok: its blob is stored.
    pub(crate) fn pack(&self) -> Result<Layer, StepError> {
        let changed = commit::ChangedRoot::walk(&self.prepared, &self.base, self.snapshots.layers())?;
        let changes = changed.changes(self.original.as_ref(), &self.base, &self.snapshots, None)?;
        let mut writer = LayerWriter::new(self.store.draft_blob()?, &WriteOptions::default());
        changes.write_to(&mut writer)?;
        let (draft, written) = writer.finish()?;
        draft.finish(written.blob, written.size)?;
        let blob = Descriptor::new(written.media_type, written.blob, written.size);
        Ok(Layer { diff_id: written.diff_id, blob })
    }
}
