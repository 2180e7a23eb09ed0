//! Stores what a step produced as a layer, and records it.
//!
//! **Order.** Blob, tree, record: a record never names a blob that is not stored.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::digest::DiffId;
use crate::base::fs::FsError;
use crate::base::rooted::Root;
use crate::base::time::Timestamp;
use crate::cache::{KeyParts, Made};
use crate::layer::{
    Before, Changes, LayerWriter, Leftovers, LowerFiles, Marks, OverlayAttributes, PreviousBlob, RelPath, SegmentIndex,
    Tree, Walked, WriteOptions,
};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::plan::Step;
use crate::snapshot::{Layers, MARKS, Prepared, SEGMENTS, SIMILAR, Snapshotter};
use crate::store::BlobDraft;

use super::chain::{Packing, Sealed, State};
use super::copied_root::Original;
use super::error::StepError;
use super::history::{self, History};
use super::listed;
use super::message::Reporter;
use super::progress::Progress;
use super::second_key::SecondKeys;
use super::shared::Shared;
use super::task::Task;

/// Packs the changes of a RUN as a layer; `packing` receives its entries as soon as they are known. Ok: the blob is
/// stored. Returns also what the directory has besides.
pub(super) fn pack(
    shared: &Shared<'_>,
    history: &History,
    task: Task<'_>,
    (changed, original): (ChangedRoot, Option<&Original>),
    packing: &Packing,
    reporter: &Reporter,
) -> Result<(Sealed, Leftovers), StepError> {
    let changes = changed.changes(original, task.parent(), shared.snapshots()?, shared.plan.clamp)?;
    packing.outline.keep(Ok(Arc::new(Tree::new(changes.entries().to_vec()))));
    let made = write_layer(shared, history, task.step, reporter, |writer| Ok(changes.write_to(writer)?))?;
    Ok((made, changes.leftovers()))
}

/// Stores the layer that `write` writes; reports progress if it takes long.
pub(super) fn write_layer(
    shared: &Shared<'_>,
    history: &History,
    step: &Step,
    reporter: &Reporter,
    write: impl FnOnce(&mut LayerWriter<BlobDraft>) -> Result<(), StepError>,
) -> Result<Sealed, StepError> {
    let progress = Progress::new(step.id, shared.stop, reporter);
    let mut options = WriteOptions {
        compression: shared.builder.settings.compression,
        latest: shared.plan.clamp,
        watch: Some(progress.watch()),
        ..WriteOptions::default()
    };
    let before = use_previous(shared, history, step, &mut options)?;
    let mut writer = LayerWriter::new(shared.builder.store.draft_blob()?, &options);
    write(&mut writer)?;
    let (draft, written) = writer.finish()?;
    draft.finish(written.blob, written.size)?;
    progress.finish(written.plain_size);
    if written.segments.0.len() > 1 {
        shared.layers.keep(written.diff_id, SEGMENTS, &written.segments.to_bytes())?;
        shared.layers.keep(written.diff_id, MARKS, &written.marks.to_bytes(written.blob))?;
    }
    if let Some(before) = before.filter(|before| *before != written.diff_id) {
        shared.layers.keep(written.diff_id, SIMILAR, before.to_string().as_bytes())?;
    }
    let blob = Descriptor::new(written.media_type, written.blob, written.size);
    let tree = Some(Arc::new(written.tree));
    Ok(Sealed { layer: Layer { diff_id: written.diff_id, blob }, tree })
}

/// Lets the writer reuse the previous layer of the step's slot: its compressed segments and, unless the step ignores
/// the cache, its beginning. Returns which layer that is.
fn use_previous(
    shared: &Shared<'_>,
    history: &History,
    step: &Step,
    options: &mut WriteOptions,
) -> Result<Option<DiffId>, StepError> {
    let Some(record) = history.record(shared, step)? else { return Ok(None) };
    let before = Some(record.diff_id);
    let Some(blob) = record.blobs.get(&shared.builder.settings.compression.method()) else { return Ok(before) };
    // Missing segments are compressed again.
    let index = shared.layers.kept(record.diff_id, SEGMENTS).and_then(|bytes| SegmentIndex::from_bytes(&bytes));
    let (Some(index), Ok(file)) = (index, shared.builder.store.blob_file(blob.digest)) else { return Ok(before) };
    if !step.meta.no_cache
        && let Ok(file) = file.try_clone()
        && let Some(bytes) = shared.layers.kept(record.diff_id, MARKS)
    {
        let marks = Marks::from_bytes(&bytes, blob.digest);
        options.before = marks.map(|marks| Before::new(file, index.clone(), marks));
    }
    options.previous = Some(PreviousBlob::new(file, &index));
    Ok(before)
}

/// Records a layer whose blob is stored, under all keys of its step.
pub(super) fn record(
    shared: &Shared<'_>,
    second: &SecondKeys,
    task: Task<'_>,
    parts: KeyParts,
    made: &Sealed,
) -> Result<(), StepError> {
    if let Some(tree) = &made.tree {
        shared.layers.keep_tree(made.layer.diff_id, tree)?;
    }
    let parent = task.inputs.first().filter(|_| !task.step.is_linked());
    let origin =
        Made { at: Some(Timestamp::from_secs(Timestamp::now().secs)), below: parent.and_then(|p| p.identity()) };
    shared.records().keep(parts.clone(), &made.layer, origin)?;
    listed::note(shared, task.step)?;
    history::note_key(shared, task.step, parts.key())?;
    second.record(shared, task, parts, &made.layer, origin)
}

/// The root after a command, with its changes.
pub(super) struct ChangedRoot {
    root: Root,
    walked: Walked,
}

impl ChangedRoot {
    /// Walks the changes over `parent`. Ok: a step that stacks the directory sees what the layer will contain.
    pub(super) fn walk(prepared: &Prepared, parent: &State, layers: &Layers<'_>) -> Result<Self, StepError> {
        let path = prepared.changed();
        let root = Root::open(path).map_err(|e| FsError::new("open", path, e))?;
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

    /// The changes relative to `parent`; times later than `latest` become `latest`.
    pub(super) fn changes(
        self,
        original: Option<&Original>,
        parent: &State,
        snapshots: &Snapshotter<'_>,
        latest: Option<Timestamp>,
    ) -> Result<Changes, StepError> {
        let lower = parent.outline(snapshots.layers())?;
        let files = Below(parent.directories(snapshots)?);
        Ok(self.walked.changes(&self.root, &lower, &files, original.map(|o| &o.baseline), latest)?)
    }
}

/// The files of a chain of layers, each layer in its directory, bottom first.
struct Below(Vec<PathBuf>);

impl LowerFiles for Below {
    fn open(&self, layer: usize, path: &RelPath) -> Option<File> {
        let root = Root::open(self.0.get(layer)?).ok()?;
        root.open_file(path.as_os_str()).ok()
    }
}
