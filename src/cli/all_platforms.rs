//! Fetching an image for all its platforms.

use std::collections::BTreeMap;

use crate::base::digest::BlobDigest;
use crate::engine::VerifyingStore;
use crate::layer::Limits;
use crate::oci::descriptor::{CONFIG, DOCKER_CONFIG, Descriptor};
use crate::oci::image::Image;
use crate::oci::manifest::Manifest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{Client, Manifests, RegistryError};
use crate::store::Store;

/// Layers pulled at the same time.
pub(super) const JOBS: usize = 4;

/// Which blobs are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// Manifests and configs.
    Documents,
    /// Also layers, except those that a registry need not have.
    Everything,
}

/// Fetches what the store lacks of all images that `name` stands for. Ok: the store has them, and layers match the configs.
pub(super) fn fetch(
    client: &Client,
    name: &Reference,
    store: &Store,
    parts: Parts,
    limits: &Limits,
) -> Result<Manifests, RegistryError> {
    let found = client.resolve_all(name, store)?;
    for (descriptor, manifest) in &found.manifests {
        client.fetch(name, std::slice::from_ref(&manifest.config), store, 1)?;
        if parts == Parts::Everything {
            layers(client, name, descriptor, manifest, store, limits)?;
        }
    }
    Ok(found)
}

/// Fetches the layers of one manifest. Ok: the store has them; those of an image match its config.
pub(super) fn layers(
    client: &Client,
    name: &Reference,
    descriptor: &Descriptor,
    manifest: &Manifest,
    store: &Store,
    limits: &Limits,
) -> Result<(), RegistryError> {
    // What a foreign layer holds may not be distributed; a push does not send it either (S-57).
    let layers: Vec<Descriptor> = manifest.layers.iter().filter(|layer| layer.urls.is_empty()).cloned().collect();
    if !is_image(manifest) {
        return client.fetch(name, &layers, store, JOBS);
    }
    let image = Image::read(store, descriptor, &Platform::host())
        .map_err(|source| RegistryError::Image { name: name.familiar(), source })?;
    client.fetch(name, &layers, &VerifyingStore::of(store, &image, limits), JOBS)
}

/// Whether all layers are archives; attestations and other artifacts have layers of other types.
pub(super) fn is_image(manifest: &Manifest) -> bool {
    [CONFIG, DOCKER_CONFIG].contains(&manifest.config.media_type.as_str())
        && manifest.layers.iter().all(|layer| layer.media_type.contains("tar"))
}

/// The platforms of all images, as they are listed; of an image without index, that of its config.
pub(super) fn platforms(found: &Manifests, store: &Store) -> Vec<Platform> {
    let platform = |(descriptor, manifest): &(Descriptor, Manifest)| match &descriptor.platform {
        Some(platform) => Some(platform.clone()),
        None if is_image(manifest) => Some(Image::read(store, descriptor, &Platform::host()).ok()?.config.platform),
        None => None,
    };
    found.manifests.iter().filter_map(platform).filter(|platform| platform.os != "unknown").collect()
}

/// The size of all layers; equal ones count once.
pub(super) fn size(found: &Manifests) -> u64 {
    let layers = found.manifests.iter().flat_map(|(_, manifest)| &manifest.layers);
    let unique: BTreeMap<BlobDigest, u64> = layers.map(|layer| (layer.digest, layer.size)).collect();
    unique.values().sum()
}
