//! From changes to a stored layer.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::base::digest::DiffId;
use crate::base::rooted::Root;
use crate::base::time::Timestamp;
use crate::layer::{
    self, Before, Changes, LayerWriter, LowerFiles, Marks, OverlayAttributes, PreviousBlob, RelPath, SegmentIndex,
    Tree, Walked, WriteOptions,
};
use crate::oci::blob::BlobSource as _;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::plan::Step;
use crate::snapshot::{Layers, Prepared};
use crate::store::BlobDraft;

use super::StepError;
use super::builder::Message;
use super::chain::{Packing, Sealed, State};
use super::copied::Original;
use super::progress::Progress;
use super::worker::Worker;

/// The name under which a layer's segment index is kept beside it.
const SEGMENTS: &str = "segments";
/// The name of the places where the next layer can go on from.
const MARKS: &str = "marks";

impl Worker<'_> {
    /// Makes a layer of what a RUN did to its root, and says what it holds as soon as that is known. Ok: the blob is stored.
    pub(super) fn pack(
        &self,
        step: &Step,
        left: Left,
        original: Option<&Original>,
        parent: &State,
        packing: &Packing,
        sender: &Sender<Message>,
    ) -> Result<Sealed, StepError> {
        let changes = left.changes(original, parent, &self.layers, self.plan.clamp)?;
        packing.outline.keep(Ok(Arc::new(Tree::new(changes.entries().to_vec()))));
        self.write_layer(step, sender, |writer| Ok(changes.write_to(writer)?))
    }

    /// Stores the layer that `write` writes, and tells `sender` if that takes long.
    pub(super) fn write_layer(
        &self,
        step: &Step,
        sender: &Sender<Message>,
        write: impl FnOnce(&mut LayerWriter<BlobDraft>) -> Result<(), StepError>,
    ) -> Result<Sealed, StepError> {
        let progress = Progress::new(step.id, self.stop, sender);
        let mut options = WriteOptions {
            compression: self.builder.settings.compression,
            latest: self.plan.clamp,
            watch: Some(progress.watch()),
            ..WriteOptions::default()
        };
        self.use_previous(step, &mut options)?;
        let mut writer = LayerWriter::new(self.builder.store.draft_blob()?, &options);
        write(&mut writer)?;
        let (draft, written) = writer.finish()?;
        draft.finish(written.blob, written.size)?;
        progress.finish(written.plain_size);
        if written.segments.0.len() > 1 {
            self.layers.keep(written.diff_id, SEGMENTS, &written.segments.to_bytes())?;
            self.layers.keep(written.diff_id, MARKS, &written.marks.to_bytes(written.blob))?;
        }
        let blob = Descriptor::new(written.media_type, written.blob, written.size);
        let tree = Some(Arc::new(written.tree));
        Ok(Sealed { layer: Layer { diff_id: written.diff_id, blob }, tree })
    }

    /// Writes a stored layer once more, compressed as this build wants it. Ok: that blob is stored too.
    pub(super) fn recompress(&self, diff_id: DiffId, blob: &Descriptor) -> Result<Descriptor, StepError> {
        let options = WriteOptions { compression: self.builder.settings.compression, ..WriteOptions::default() };
        let plain = self.builder.store.open(blob).map_err(crate::store::Error::from)?;
        let (draft, written) = layer::recompress(plain, diff_id, self.builder.store.draft_blob()?, &options)?;
        draft.finish(written.blob, written.size)?;
        Ok(Descriptor::new(written.media_type, written.blob, written.size))
    }

    /// Offers what the layer that this place made last time has in common with the next: its compressed segments and,
    /// unless everything is to be done again, its beginning.
    fn use_previous(&self, step: &Step, options: &mut WriteOptions) -> Result<(), StepError> {
        let Some(record) = self.last_record(step)? else { return Ok(()) };
        let Some(blob) = record.blobs.get(&self.builder.settings.compression.method()) else { return Ok(()) };
        // Whatever of it is gone is compressed again.
        let index = self.layers.kept(record.diff_id, SEGMENTS).and_then(|bytes| SegmentIndex::from_bytes(&bytes));
        let (Some(index), Ok(file)) = (index, self.builder.store.blob_file(blob.digest)) else { return Ok(()) };
        if !step.meta.no_cache
            && let Ok(file) = file.try_clone()
            && let Some(bytes) = self.layers.kept(record.diff_id, MARKS)
        {
            let marks = Marks::from_bytes(&bytes, blob.digest);
            options.before = marks.map(|marks| Before::new(file, index.clone(), marks));
        }
        options.previous = Some(PreviousBlob::new(file, &index));
        Ok(())
    }
}

/// What a command left in its root.
pub(super) struct Left {
    root: Root,
    walked: Walked,
}

impl Left {
    /// Looks at what was prepared over `parent`. Ok: if the next step stacks it, it sees what the layer will say.
    pub(super) fn look(prepared: &Prepared, parent: &State, layers: &Layers<'_>) -> Result<Self, StepError> {
        let path = prepared.changed();
        let root = Root::open(path).map_err(|e| crate::base::fs::FsError::new("open", path, e))?;
        let walked = match prepared {
            Prepared::Overlay { userxattr, .. } => {
                let attributes = if *userxattr { OverlayAttributes::User } else { OverlayAttributes::Trusted };
                let mut walked = Walked::upper(&root, attributes)?;
                if walked.has_sockets() {
                    walked.remove_sockets(&root, &*parent.outline(layers)?)?;
                }
                walked
            }
            Prepared::Copy { .. } => Walked::tree(&root)?,
        };
        Ok(Self { root, walked })
    }

    /// What of it is new over `parent`; times later than `latest` count as that.
    pub(super) fn changes(
        self,
        original: Option<&Original>,
        parent: &State,
        layers: &Layers<'_>,
        latest: Option<Timestamp>,
    ) -> Result<Changes, StepError> {
        let lower = parent.outline(layers)?;
        let files = Below(parent.directories(layers)?);
        Ok(self.walked.changes(&self.root, &lower, &files, original.map(|o| &o.baseline), latest)?)
    }
}

/// The files of a chain of layers, each layer in its directory, bottom first.
pub(super) struct Below(pub(super) Vec<PathBuf>);

impl LowerFiles for Below {
    fn open(&self, layer: usize, path: &RelPath) -> Option<File> {
        let root = Root::open(self.0.get(layer)?).ok()?;
        root.open_file(path.as_os_str()).ok()
    }
}
