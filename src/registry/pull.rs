//! From a name to an image: pin the tag, read manifest and config, fetch layers when somebody needs them.

use std::io::{Cursor, Read};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, ImageError};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::Error;
use super::client::{Client, Repository};

/// What a name stood for when it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Pinned {
    /// The name with the digest of `target`.
    pub reference: Reference,
    /// The manifest or index that the name stands for.
    pub target: Descriptor,
    /// The image for the platform asked for.
    pub image: Image,
}

impl Client {
    /// Reads a tag once and fetches manifest and config (and index) of `platform`'s image, no layer.
    ///
    /// Ok: the documents are in `store` and belong together. What the store has already is not fetched again: for an
    /// unchanged tag that is one HEAD request.
    pub fn resolve(&self, name: &Reference, platform: &Platform, store: &dyn BlobStore) -> Result<Pinned, Error> {
        self.first(name, |repository| repository.resolve(name, platform, store))
    }

    /// Fetches the layers that `store` lacks, up to `jobs` at a time, each byte hashed once (by the store).
    ///
    /// Ok: the store has them all. On an error, those already complete stay.
    pub fn fetch(
        &self,
        name: &Reference,
        layers: &[Descriptor],
        store: &dyn BlobStore,
        jobs: usize,
    ) -> Result<(), Error> {
        let mut wanted: Vec<&Descriptor> = Vec::new();
        for layer in layers {
            if !wanted.iter().any(|w| w.digest == layer.digest) && !store.has(layer)? {
                wanted.push(layer);
            }
        }
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.fetch_one(name, layer, store) {
                    // The first error is the cause; the rest follow from stopping.
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

    /// Fetches a layer, unless somebody else does, who is waited for (N-67).
    fn fetch_one(&self, name: &Reference, layer: &Descriptor, store: &dyn BlobStore) -> Result<(), Error> {
        let bringing = store.bring(layer, &|| !self.is_cancelled());
        // Whatever went wrong with waiting is the consequence of that.
        let bringing = if self.is_cancelled() { return Err(Error::Cancelled) } else { bringing? };
        if store.has(layer)? {
            return Ok(());
        }
        let fetched = self.first(name, |repository| repository.fetch(layer, store));
        if fetched.is_err() && !self.is_cancelled() {
            bringing.failed();
        }
        fetched
    }

    /// [`Client::resolve`], then [`Client::fetch`] of all layers. Ok: the image is in `store` whole.
    pub fn pull(
        &self,
        name: &Reference,
        platform: &Platform,
        store: &dyn BlobStore,
        jobs: usize,
    ) -> Result<Pinned, Error> {
        let pinned = self.resolve(name, platform, store)?;
        self.fetch(name, &pinned.image.manifest.layers, store, jobs)?;
        Ok(pinned)
    }
}

impl Repository<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform, store: &dyn BlobStore) -> Result<Pinned, Error> {
        let target = match (&name.digest, &name.tag) {
            (Some(digest), _) => {
                let (target, bytes) = self.manifest_by_digest(*digest)?;
                store.accept(&target, &mut &bytes[..])?;
                target
            }
            (None, Some(tag)) => match self.head(tag)? {
                Some(target) if store.has(&target)? => target,
                _ => {
                    let (target, bytes) = self.manifest_by_tag(tag)?;
                    store.accept(&target, &mut &bytes[..])?;
                    target
                }
            },
            (None, None) => {
                let why = "the name has neither tag nor digest".to_owned();
                return Err(Error::Protocol { url: name.to_string(), why });
            }
        };
        let image = self.image(name, &target, platform, store)?;
        let reference = Reference { digest: Some(target.digest), ..name.clone() };
        Ok(Pinned { reference, target, image })
    }

    /// Reads the image for `platform` behind a manifest or index, fetching what `store` lacks of the documents.
    fn image(
        &self,
        name: &Reference,
        target: &Descriptor,
        platform: &Platform,
        store: &dyn BlobStore,
    ) -> Result<Image, Error> {
        let source = ReadThrough { remote: self, store, failure: Mutex::new(None) };
        Image::read(&source, target, platform).map_err(|error| {
            let failure = source.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
            match (failure, error) {
                (Some(failure), ImageError::Blob(_)) => failure,
                (_, source) => Error::Image { name: name.familiar(), source },
            }
        })
    }

    /// Ok: the store has the blob. It is resumed where the connection breaks, and verified by the store as a whole.
    pub fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), Error> {
        let mut download = self.download(blob)?;
        let accepted = store.accept(blob, &mut download);
        match (accepted, download.into_failure()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Documents from the store if it has them, else from the registry into the store.
struct ReadThrough<'a> {
    remote: &'a Repository<'a>,
    store: &'a dyn BlobStore,
    failure: Mutex<Option<Error>>,
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
            let missing = matches!(error, Error::NotFound { .. });
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return Err(BlobError { operation: "fetch", digest: blob.digest, reason, missing });
        }
        self.store.open(blob)
    }
}

impl ReadThrough<'_> {
    /// A stored document that does not verify is as good as none: it is fetched again (S-130).
    fn stored(&self, blob: &Descriptor) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.store.open(blob).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}
