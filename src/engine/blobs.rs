//! The blobs of a build: those of the store, and those that are elsewhere and fetched when one is first read.
//!
//! **Holds.** A step found in a shared cache, and a base image under such a step, count as there before their blobs are: most are
//! never read. A blob that was promised and cannot be fetched makes the build start again, without what promised it.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::digest::BlobDigest;
use crate::base::sparse::SparseRead;
use crate::cache::remote::Remotes;
use crate::layer::Limits;
use crate::oci::blob::{BlobError, BlobFault, BlobSink as _, BlobSource};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::plan::ImageRequest;
use crate::store::Store;

use super::base_image::BaseImage;
use super::builder::Builder;
use super::error::Error;
use super::verifying_store::VerifyingStore;

/// Blobs fetched at the same time.
const JOBS: usize = 8;

/// The blobs of one build.
pub(super) struct Blobs<'a> {
    builder: &'a Builder<'a>,
    promised: Arc<Mutex<BTreeMap<BlobDigest, Promised>>>,
}

/// Where a blob is that the store lacks.
#[derive(Clone)]
enum Promised {
    /// In a shared cache.
    Cache(Box<Layer>),
    /// In the registry of a base image.
    Base(Box<(ImageRequest, BaseImage)>),
}

impl<'a> Blobs<'a> {
    pub(super) fn new(builder: &'a Builder<'a>) -> Self {
        Self { builder, promised: Arc::default() }
    }

    /// The same blobs for another attempt of the build.
    pub(super) fn again<'b>(&self, builder: &'b Builder<'b>) -> Blobs<'b> {
        Blobs { builder, promised: Arc::clone(&self.promised) }
    }

    /// Whether the blob of `layer` is in the store, or in a shared cache and fetched when it is read.
    pub(super) fn have(&self, layer: &Layer) -> Result<bool, Error> {
        if self.store().has(&layer.blob).map_err(crate::store::Error::from)? {
            return Ok(true);
        }
        let held = self.remotes().holds(&layer.blob);
        if held {
            self.promise(layer.blob.digest, Promised::Cache(Box::new(layer.clone())));
        }
        Ok(held)
    }

    /// Counts the layers of a base image as there.
    pub(super) fn promise_base(&self, request: &ImageRequest, image: &BaseImage) {
        for layer in &image.layers {
            self.promise(layer.blob.digest, Promised::Base(Box::new((request.clone(), image.clone()))));
        }
    }

    /// Fetches what the store lacks of `layers`, several at a time. The first error ends it.
    pub(super) fn fetch_all(&self, layers: &[Layer]) -> Result<(), Error> {
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while !self.builder.cancel.is_cancelled()
                && let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Err(error) = self.open(&layer.blob) {
                    next.store(layers.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..JOBS.min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(crate::store::Error::from(error).into()),
            None => Ok(()),
        }
    }

    fn promise(&self, blob: BlobDigest, promised: Promised) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).insert(blob, promised);
    }

    fn store(&self) -> &'a Store {
        self.builder.store
    }

    fn remotes(&self) -> &'a Remotes {
        self.builder.remotes
    }

    /// `false`: nobody gave it.
    fn fetch(&self, blob: &Descriptor) -> Result<bool, BlobError> {
        let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner).get(&blob.digest).cloned();
        match promised {
            None => Ok(false),
            Some(Promised::Cache(layer)) => {
                let sink = VerifyingStore::new(self.store(), vec![*layer], &Limits::default());
                Ok(self.remotes().fetch(blob, &sink))
            }
            Some(Promised::Base(base)) => {
                let (request, image) = &*base;
                let images = self.builder.images;
                let fetched = images.fetch(request, image, std::slice::from_ref(blob), &|_| (), None);
                let failed = |e| BlobError {
                    operation: "fetch",
                    digest: blob.digest,
                    reason: chain(&e),
                    fault: BlobFault::Other,
                };
                fetched.map(|()| true).map_err(failed)
            }
        }
    }
}

impl BlobSource for Blobs<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        match self.store().open(blob) {
            Err(error) if error.fault == BlobFault::Missing && self.fetch(blob)? => self.store().open(blob),
            other => other,
        }
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Option<Box<dyn Read + Send>> {
        self.store().part(blob, range)
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
