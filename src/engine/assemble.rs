//! Assembles an image from step results.

use std::sync::Arc;

use crate::base::digest::{BlobDigest, DiffId, Sha256};
use crate::oci::config::{History, ImageConfig, RootFs};
use crate::oci::descriptor::{CONFIG, Descriptor, Layer};
use crate::oci::manifest::{InvalidDocument, Manifest};
use crate::plan::Plan;
use crate::store::Store;

use super::chain::State;
use super::error::Error;

/// The image that a build produced; all its blobs are stored.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The digest of the image's config, which Docker calls the image id.
    pub config: BlobDigest,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// The store has grown, and nobody was told yet that it takes more than its limit.
    pub grew: bool,
}

/// Ok: the config of `plan` will be valid.
pub(super) fn check(plan: &Plan) -> Result<(), Error> {
    Ok(blank_config(plan).map(drop)?)
}

/// The config of `plan`, with placeholders for the digests of layers, which are not known yet.
pub(super) fn blank_config(plan: &Plan) -> Result<Vec<u8>, InvalidDocument> {
    let stage = plan.target_stage();
    let none = DiffId(Sha256([0; 32]));
    let mut config = ImageConfig { history: history(plan), ..stage.config.clone() };
    let layers = config.history.iter().filter(|entry| !entry.empty_layer).count();
    config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: vec![none; layers] };
    config.checked_bytes()
}

fn history(plan: &Plan) -> Vec<History> {
    let stage = plan.target_stage();
    let new = stage.history.iter().map(|entry| History {
        created: Some(plan.created),
        created_by: Some(entry.created_by.clone()),
        author: entry.author.clone(),
        comment: Some(entry.comment.clone()),
        empty_layer: entry.layer.is_none(),
    });
    stage.config.history.iter().cloned().chain(new).collect()
}

/// Stores config and manifest of the target. Reproducible: times come from the plan.
pub(super) fn assemble(store: &Store, plan: &Plan, states: &[Arc<State>]) -> Result<Outcome, Error> {
    of_layers(store, plan, states[plan.target_stage().last.index()].layers()?)
}

/// [`assemble`] of the target's layers, bottom first.
pub(super) fn of_layers(store: &Store, plan: &Plan, layers: Vec<Layer>) -> Result<Outcome, Error> {
    let stage = plan.target_stage();
    let mut config: ImageConfig = stage.config.clone();
    config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: layers.iter().map(|layer| layer.diff_id).collect() };
    config.history = history(plan);
    let config = store.put(CONFIG, &config.checked_bytes()?)?;
    let manifest = Manifest::new(config.clone(), layers.iter().map(|layer| layer.blob.clone()).collect());
    let media_type = manifest.media_type.clone().unwrap_or_default();
    let manifest = store.put(&media_type, &manifest.to_bytes())?;
    Ok(Outcome { manifest, config: config.digest, layers, grew: false })
}
