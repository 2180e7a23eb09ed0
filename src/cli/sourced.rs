//! The blobs of an image to push, some of which may only be in registries.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::base::digest::BlobDigest;
use crate::base::sparse::SparseRead;
use crate::layer::Limits;
use crate::oci::blob::{BlobError, BlobFault, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::manifests;
use crate::oci::manifest::Manifest;
use crate::oci::reference::Reference;
use crate::registry::Client;
use crate::store::{Sources, Store};

use super::all_platforms;
use super::failure::chain;

/// A store that fetches the layers of an index's images, where it lacks them, from where the images were found.
pub(super) struct Sourced<'a> {
    store: &'a Store,
    client: &'a Client,
    target: &'a Descriptor,
    origins: OnceLock<BTreeMap<BlobDigest, Origin>>,
}

/// The image that a layer belongs to.
#[derive(Clone)]
struct Origin {
    name: Reference,
    descriptor: Descriptor,
    manifest: Manifest,
}

impl<'a> Sourced<'a> {
    /// For the images of `target`.
    pub(super) fn new(store: &'a Store, client: &'a Client, target: &'a Descriptor) -> Self {
        Self { store, client, target, origins: OnceLock::new() }
    }

    fn origin(&self, blob: BlobDigest) -> Option<&Origin> {
        let origins = self.origins.get_or_init(|| {
            let sources = Sources::of(self.target);
            let mut origins = BTreeMap::new();
            for (descriptor, manifest) in manifests(self.store, self.target).unwrap_or_default() {
                let Some(name) = sources.name_of(descriptor.digest) else { continue };
                // The tag may have moved.
                let name = Reference { digest: Some(descriptor.digest), ..name.clone() };
                let origin = Origin { name, descriptor, manifest };
                let layers = origin.manifest.layers.iter().map(|layer| (layer.digest, origin.clone()));
                origins.extend(layers);
            }
            origins
        });
        origins.get(&blob)
    }
}

impl BlobSource for Sourced<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        match self.store.open(blob) {
            Err(error) if error.fault == BlobFault::Missing => {
                let Some(Origin { name, descriptor, manifest }) = self.origin(blob.digest) else { return Err(error) };
                let one = Manifest { layers: vec![blob.clone()], ..manifest.clone() };
                let fetched =
                    all_platforms::layers(self.client, name, descriptor, &one, self.store, &Limits::default());
                let fail = |e| BlobError {
                    operation: "fetch",
                    digest: blob.digest,
                    reason: chain(&e),
                    fault: BlobFault::Other,
                };
                fetched.map_err(fail)?;
                self.store.open(blob)
            }
            other => other,
        }
    }
}
