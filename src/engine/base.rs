//! Executes FROM: the layers of an image, or the files of a context as one layer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::cache::{KeyParts, step_key};
use crate::copy::{self, Dest, LayerDirs};
use crate::fetch::Remote;
use crate::layer::{LayerWriter, MergedTree, Output};
use crate::oci::blob::BlobSink as _;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::plan::{ContextName, CopyFrom, ImageRequest, Plan, Step, StepId, StepKind};
use crate::snapshot::Arrivals;

use super::base_image::BaseImage;
use super::chain::{Sealed, State};
use super::commit;
use super::error::StepError;
use super::event::Event;
use super::fetched::Fetched;
use super::history::History;
use super::message::Reporter;
use super::shared::Shared;

/// The layers of an image, if the store has all their blobs.
pub(super) fn image(shared: &Shared<'_>, request: &ImageRequest) -> Result<Option<Arc<State>>, StepError> {
    let image = resolved(shared, request);
    Ok(missing(shared, image)?.is_empty().then(|| image_state(image)))
}

/// The key of an image: its manifest's digest.
pub(super) fn image_parts(shared: &Shared<'_>, request: &ImageRequest) -> KeyParts {
    step_key::image(resolved(shared, request).manifest.digest)
}

/// Fetches the missing layers of an image. Ok: the store has the blob of every layer.
pub(super) fn fetch_image(
    shared: &Shared<'_>,
    step: &Step,
    request: &ImageRequest,
    reporter: &Reporter,
) -> Result<Arc<State>, StepError> {
    let image = resolved(shared, request);
    let missing = missing(shared, image)?;
    let bytes = missing.iter().map(|blob| blob.size).sum();
    reporter.event(Event::Fetching { step: step.id, bytes });
    let fetched = Fetched::new(step.id, bytes, reporter.clone());
    let arrivals = Arrivals { snapshots: shared.snapshots()?, files: needs_files(shared.plan, step.id) };
    shared.builder.images.fetch(request, image, &missing, &|more| fetched.add(more), Some(arrivals))?;
    Ok(image_state(image))
}

/// The layer with all files of a context. Ok: it is stored.
pub(super) fn context(
    shared: &Shared<'_>,
    history: &History,
    name: &ContextName,
    step: &Step,
    reporter: &Reporter,
) -> Result<Sealed, StepError> {
    let scratch = shared.scratch_dir(step, "context")?;
    commit::write_layer(shared, history, step, reporter, |writer| write_context(shared, name, &scratch, writer))
}

/// The state with only the layer of a context.
pub(super) fn context_state(layer: Layer) -> Arc<State> {
    State::base(step_key::layers(&[layer.diff_id]), [layer])
}

/// Writes all files of a context as a layer.
pub(super) fn write_context<W: Output>(
    shared: &Shared<'_>,
    name: &ContextName,
    scratch: &Path,
    writer: &mut LayerWriter<W>,
) -> Result<(), StepError> {
    let copy = copy::whole(CopyFrom::Context(name.clone()));
    let (tree, nothing) = (MergedTree::new(), LayerDirs::default());
    let prepared = copy::prepare(&copy, &shared.context(name).tree, &Remote::new(scratch, scratch))?;
    copy::execute(&copy, &prepared, &Dest { tree: &tree, files: &nothing, passed: &[] }, scratch, writer)?;
    Ok(())
}

/// Whether a command runs on the files of `base`, or a step copies or mounts some of them.
fn needs_files(plan: &Plan, base: StepId) -> bool {
    let mut over = BTreeSet::from([base]);
    plan.steps.iter().any(|step| {
        let Some((parent, others)) = step.inputs.split_first() else { return false };
        let is_over = over.contains(parent) && over.insert(step.id);
        others.iter().any(|other| over.contains(other)) || (is_over && matches!(step.kind, StepKind::Run(_)))
    })
}

/// The layers of an image that are fetched when their files are read.
pub(super) fn late_image(shared: &Shared<'_>, request: &ImageRequest) -> Arc<State> {
    let image = resolved(shared, request);
    shared.blobs.promise_base(request, image);
    image_state(image)
}

pub(super) fn resolved<'a>(shared: &Shared<'a>, request: &ImageRequest) -> &'a BaseImage {
    shared.builder.bases.get(request).expect("every image of a plan was resolved to make the plan")
}

/// Layer blobs of `image` that the store lacks or has not verified, each once.
fn missing(shared: &Shared<'_>, image: &BaseImage) -> Result<Vec<Descriptor>, StepError> {
    let store = shared.builder.store;
    let mut missing: Vec<Descriptor> = Vec::new();
    for layer in &image.layers {
        if !missing.iter().any(|m| m.digest == layer.blob.digest)
            && !(store.has(&layer.blob).map_err(crate::store::Error::from)?
                && (image.named || store.is_layer(layer.blob.digest, layer.diff_id)))
        {
            missing.push(layer.blob.clone());
        }
    }
    Ok(missing)
}

/// The file system of an image.
pub(super) fn image_state(image: &BaseImage) -> Arc<State> {
    let chain: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
    State::base(step_key::layers(&chain), image.layers.iter().cloned())
}
