//! From a name to an image: pin the tag, read manifest and config, fetch layers on demand.

use std::cmp::Reverse;
use std::io::{Cursor, Read};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobFault, BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, ImageError, manifests};
use crate::oci::manifest::Manifest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::transport::HttpError;

use super::RegistryError;
use super::client::Client;
use super::download::Download;
use super::parts::Parts;
use super::repository::Repository;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pinned {
    /// The name with the digest of `target`.
    pub reference: Reference,
    /// The manifest or index that the name stands for.
    pub target: Descriptor,
    /// The image for the requested platform.
    pub image: Image,
}

/// What a name stands for, for all platforms.
#[derive(Clone, Debug)]
pub(crate) struct Manifests {
    /// The manifest or index.
    pub target: Descriptor,
    /// Every manifest, with its descriptor in the index.
    pub manifests: Vec<(Descriptor, Manifest)>,
}

impl Client {
    /// Reads a tag once and fetches the documents of `platform`'s image (index, manifest and config), but no layer.
    ///
    /// Ok: the documents are in `store` and belong together. Documents that the store has are not fetched again, so that
    /// an unchanged tag costs one HEAD request; the manifest of a new name is read at once.
    pub(crate) fn resolve(
        &self,
        name: &Reference,
        platform: &Platform,
        store: &dyn BlobStore,
    ) -> Result<Pinned, RegistryError> {
        self.try_hosts(name, |repository| repository.resolve(name, platform, store))
    }

    /// Fetches the manifest or index that a name stands for, and nothing that it refers to. Ok: the store has it.
    pub(crate) fn pin(&self, name: &Reference, store: &dyn BlobStore) -> Result<Descriptor, RegistryError> {
        self.try_hosts(name, |repository| repository.pin(name, store))
    }

    /// [`Client::resolve`] for all platforms: fetches the manifest or index that a name stands for, and every manifest that
    /// it lists, but no config. Ok: the store has them.
    pub(crate) fn resolve_all(&self, name: &Reference, store: &dyn BlobStore) -> Result<Manifests, RegistryError> {
        self.try_hosts(name, |repository| {
            let target = repository.pin(name, store)?;
            let manifests = repository.read_through(name, store, |source| manifests(source, &target))?;
            Ok(Manifests { target, manifests })
        })
    }

    /// Fetches the layers that `store` lacks, up to `jobs` at a time. The store hashes each byte, once.
    ///
    /// Ok: the store has all layers. After an error, complete layers stay.
    pub(crate) fn fetch(
        &self,
        name: &Reference,
        layers: &[Descriptor],
        store: &dyn BlobStore,
        jobs: usize,
    ) -> Result<(), RegistryError> {
        let mut wanted: Vec<&Descriptor> = Vec::new();
        for layer in layers {
            if !wanted.iter().any(|w| w.digest == layer.digest) && !store.has(layer)? {
                wanted.push(layer);
            }
        }
        // The longest first: it decides when all are there.
        wanted.sort_by_key(|layer| Reverse(layer.size));
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<RegistryError>> = Mutex::new(None);
        let work = || {
            while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.fetch_one(name, layer, store) {
                    // The first error is the cause; further ones follow from stopping.
                    next.store(wanted.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.clamp(1, wanted.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Fetches a layer; if another process fetches it already, waits for that (N-67).
    fn fetch_one(&self, name: &Reference, layer: &Descriptor, store: &dyn BlobStore) -> Result<(), RegistryError> {
        let claim = store.claim_download(layer, &|| !self.is_cancelled());
        // An error of waiting is only the consequence of a cancellation.
        let claim = if self.is_cancelled() { return Err(HttpError::Cancelled.into()) } else { claim? };
        if store.has(layer)? {
            return Ok(());
        }
        let fetched = self.try_hosts(name, |repository| repository.fetch(layer, store));
        if fetched.is_err() && !self.is_cancelled() {
            claim.failed();
        }
        fetched
    }
}

impl Repository<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform, store: &dyn BlobStore) -> Result<Pinned, RegistryError> {
        let target = self.pin(name, store)?;
        let image = self.read_through(name, store, |source| Image::read(source, &target, platform))?;
        let reference = Reference { digest: Some(target.digest), ..name.clone() };
        Ok(Pinned { reference, target, image })
    }

    /// Reads what a name stands for. Ok: the store has it.
    fn pin(&self, name: &Reference, store: &dyn BlobStore) -> Result<Descriptor, RegistryError> {
        Ok(match (&name.digest, &name.tag) {
            (Some(digest), _) => {
                let (target, bytes) = self.manifest_by_digest(*digest)?;
                store.accept(&target, &mut &bytes[..])?;
                target
            }
            (None, Some(tag)) => {
                // A HEAD request is for what is stored and may be unchanged: registries do not count it as a pull.
                let current = if store.may_know(name) { self.head(tag)? } else { None };
                match current {
                    Some(target) if store.has(&target)? => target,
                    _ => {
                        let (target, bytes) = self.manifest_by_tag(tag)?;
                        store.accept(&target, &mut &bytes[..])?;
                        target
                    }
                }
            }
            (None, None) => {
                let why = "the name has neither tag nor digest".to_owned();
                return Err(HttpError::Protocol { url: name.to_string(), why }.into());
            }
        })
    }

    /// Reads documents, and fetches those that `store` lacks.
    fn read_through<T>(
        &self,
        name: &Reference,
        store: &dyn BlobStore,
        read: impl FnOnce(&dyn BlobSource) -> Result<T, ImageError>,
    ) -> Result<T, RegistryError> {
        let source = ReadThrough { remote: self, store, failure: Mutex::new(None) };
        read(&source).map_err(|error| {
            let failure = source.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
            match (failure, error) {
                (Some(failure), ImageError::Blob(_)) => failure,
                (_, source) => RegistryError::Image { name: name.familiar(), source },
            }
        })
    }

    /// Ok: the store has the blob. The download is resumed after a broken connection; the store verifies the whole.
    fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), RegistryError> {
        if let Some(parts) = Parts::of(self, blob) {
            return std::thread::scope(|scope| {
                let mut reader = parts.start(scope)?;
                let accepted = store.accept(blob, &mut reader);
                self.outcome(blob, accepted, reader.into_failure())
            });
        }
        let mut download = Download::start(self, blob)?;
        let accepted = store.accept(blob, &mut download);
        self.outcome(blob, accepted, download.into_failure())
    }

    /// The result of storing a download: its failure explains that of storing.
    fn outcome(
        &self,
        blob: &Descriptor,
        accepted: Result<(), BlobError>,
        failure: Option<RegistryError>,
    ) -> Result<(), RegistryError> {
        match (accepted, failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) if error.fault == BlobFault::Mismatch => {
                Err(self.wrong_content(&format!(": blob {}", blob.digest), error.reason))
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Opens documents in the store, after fetching those that it lacks.
struct ReadThrough<'a> {
    remote: &'a Repository<'a>,
    store: &'a dyn BlobStore,
    failure: Mutex<Option<RegistryError>>,
}

impl BlobSource for ReadThrough<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        if self.store.has(blob)?
            && let Some(bytes) = self.stored(blob)
        {
            return Ok(Box::new(Cursor::new(bytes)));
        }
        let fetched = if blob.is_manifest() || blob.is_index() {
            let manifest = self.remote.manifest_by_digest(blob.digest);
            manifest.and_then(|(_, bytes)| Ok(self.store.accept(blob, &mut &bytes[..])?))
        } else {
            self.remote.fetch(blob, self.store)
        };
        if let Err(error) = fetched {
            let reason = error.to_string();
            let fault = match error {
                RegistryError::NotFound { .. } => BlobFault::Missing,
                RegistryError::WrongContent { .. } => BlobFault::Mismatch,
                _ => BlobFault::Other,
            };
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return Err(BlobError { operation: "fetch", digest: blob.digest, reason, fault });
        }
        self.store.open(blob)
    }
}

impl ReadThrough<'_> {
    /// `None`: the stored document is damaged, and is fetched again (S-130).
    fn stored(&self, blob: &Descriptor) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.store.open(blob).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}
