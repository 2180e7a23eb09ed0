//! Fetching blobs that the store lacks, from where it found the images that have them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::digest::BlobDigest;
use crate::layer::Limits;
use crate::oci::blob::{BlobError, BlobFault};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::manifests;
use crate::oci::manifest::Manifest;
use crate::oci::reference::Reference;
use crate::registry::{Client, Options};
use crate::store::{Elsewhere, Sources, Store};

use super::all_platforms;
use super::args::ConnectionArgs;
use super::failure::chain;
use super::request::Environment;

/// Fetches layers of images that were made of parts in registries, or found in a shared cache.
pub(super) struct Sourced {
    client: OnceLock<Client>,
    /// How registries are reached, if that was chosen; else as the environment says.
    options: Option<Options>,
    environment: Environment,
    origins: Mutex<Origins>,
}

/// By layer.
type Origins = BTreeMap<BlobDigest, Arc<Origin>>;

/// The image that a layer belongs to, and where it may be.
struct Origin {
    names: Vec<Reference>,
    descriptor: Descriptor,
    manifest: Manifest,
}

impl Sourced {
    pub(super) fn new(environment: &Environment, options: Option<Options>) -> Self {
        let environment = environment.clone();
        Self { client: OnceLock::new(), options, environment, origins: Mutex::default() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let usual = || self.environment.registry_options(&[], &[], None, &ConnectionArgs::default());
            // A wrong configuration is an error of whoever is asked.
            Client::new(self.options.clone().or_else(|| usual().ok()).unwrap_or_default())
        })
    }

    /// Where a blob may be. Images are read again if none of those that are known has it.
    fn origin(&self, store: &Store, blob: BlobDigest) -> Option<Arc<Origin>> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if !origins.contains_key(&blob) {
            *origins = read(store);
        }
        origins.get(&blob).cloned()
    }
}

/// The origins of the layers of all images with sources.
fn read(store: &Store) -> Origins {
    let mut origins = Origins::new();
    let named = store.entries().unwrap_or_default().into_iter().map(|entry| entry.target);
    for target in named.chain(store.mentioned()) {
        let sources = Sources::of(&target);
        if sources == Sources::default() {
            continue;
        }
        let found = manifests(store, &target).unwrap_or_default();
        let listed: BTreeSet<BlobDigest> = found.iter().map(|(descriptor, _)| descriptor.digest).collect();
        for (descriptor, manifest) in found {
            let names: Vec<Reference> = sources.names_for(descriptor.digest, &listed).cloned().collect();
            let layers: Vec<BlobDigest> = manifest.layers.iter().map(|layer| layer.digest).collect();
            let origin = Arc::new(Origin { names, descriptor, manifest });
            for layer in layers {
                origins.entry(layer).or_insert_with(|| Arc::clone(&origin));
            }
        }
    }
    origins
}

impl Elsewhere for Sourced {
    fn fetch(&self, store: &Store, blob: &Descriptor) -> Result<bool, BlobError> {
        let Some(origin) = self.origin(store, blob.digest) else { return Ok(false) };
        let mut failed = None;
        for name in &origin.names {
            let one = Manifest { layers: vec![blob.clone()], ..origin.manifest.clone() };
            // The tag may have moved.
            let name = Reference { digest: Some(origin.descriptor.digest), ..name.clone() };
            let limits = Limits::default();
            match all_platforms::layers(self.client(), &name, &origin.descriptor, &one, store, &limits) {
                Ok(()) => return Ok(true),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let fail =
            |e| BlobError { operation: "fetch", digest: blob.digest, reason: chain(&e), fault: BlobFault::Other };
        failed.map_or(Ok(false), |error| Err(fail(error)))
    }
}
