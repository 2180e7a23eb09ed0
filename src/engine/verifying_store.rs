//! Verifies the layers of an image on their way into the store.

use std::io::Read;
use std::ops::Range;

use crate::base::digest::{BlobDigest, DiffId};
use crate::base::sparse::SparseRead;
use crate::layer::{self, Checked, Limits, Tree};
use crate::oci::blob::{BlobError, BlobFault, BlobSink, BlobSource, DownloadClaim};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::oci::image::Image;
use crate::snapshot::{self, Arrivals, Arriving};
use crate::store::Store;

use super::base_image::BaseImage;

/// A store that accepts layers of one image only if they decompress to their diff-ids, including those it already has.
pub(crate) struct VerifyingStore<'a> {
    store: &'a Store,
    layers: Vec<Layer>,
    limits: Limits,
    /// What else is made of layers while they arrive.
    arrivals: Option<Arrivals<'a>>,
}

/// Reads a layer to its end and verifies its diff-id. Ok: its tree, if that is kept.
type Reading = Box<dyn FnOnce(Box<dyn SparseRead + Send>) -> Result<Option<Tree>, layer::Error> + Send>;

impl<'a> VerifyingStore<'a> {
    /// For the layers of `image`.
    pub(crate) fn of(store: &'a Store, image: &Image, limits: &Limits) -> Self {
        Self::new(store, BaseImage::from(image.clone()).layers, limits)
    }

    pub(super) fn new(store: &'a Store, layers: Vec<Layer>, limits: &Limits) -> Self {
        Self { store, layers, limits: limits.clone(), arrivals: None }
    }

    /// Unpacks or lists layers, too, while they arrive.
    pub(crate) fn reading(self, arrivals: Arrivals<'a>) -> Self {
        Self { arrivals: Some(arrivals), ..self }
    }

    fn read_as(&self, want: DiffId, arriving: Option<&Arriving<'_>>) -> Reading {
        match arriving.map(Arriving::reader) {
            Some(read) => Box::new(move |blob| read(blob).map(Some)),
            None => {
                let limits = self.limits.clone();
                Box::new(move |blob| layer::verify_diff_id(blob, want, &limits).map(|()| None))
            }
        }
    }

    /// The diff-id that the image gives `blob`; `None` if it is not a layer of the image.
    fn promised(&self, blob: &Descriptor) -> Result<Option<DiffId>, BlobError> {
        let mut promised = self.layers.iter().filter(|layer| layer.blob.digest == blob.digest).map(|l| l.diff_id);
        let first = promised.next();
        match promised.find(|other| Some(*other) != first) {
            Some(_) => Err(refused(blob.digest, &"the image lists it with two different diff-ids")),
            None => Ok(first),
        }
    }
}

impl BlobSource for VerifyingStore<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        self.store.open(blob)
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Option<Box<dyn Read + Send>> {
        self.store.part(blob, range)
    }
}

impl BlobSink for VerifyingStore<'_> {
    fn has(&self, blob: &Descriptor) -> Result<bool, BlobError> {
        if !self.store.has(blob)? {
            return Ok(false);
        }
        let Some(want) = self.promised(blob)? else { return Ok(true) };
        if !self.store.is_layer(blob.digest, want) {
            layer::verify_diff_id(self.store.open(blob)?, want, &self.limits).map_err(|e| refused(blob.digest, &e))?;
            self.store.know_layer(blob.digest, want);
        }
        Ok(true)
    }

    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError> {
        let Some(want) = self.promised(blob)? else { return self.store.accept(blob, content) };
        let failed = |e: snapshot::Error| refused(blob.digest, &e);
        let layer = Layer { diff_id: want, blob: blob.clone() };
        let arriving = self.arrivals.map_or(Ok(None), |arrivals| arrivals.begin(&layer)).map_err(failed)?;
        let checked = Checked::new(content, self.read_as(want, arriving.as_ref()));
        let mut tree = None;
        self.store.accept_if(blob, checked, |checked| {
            tree = checked.finish().map_err(|e| refused(blob.digest, &e))?;
            Ok(())
        })?;
        if let (Some(arriving), Some(tree)) = (arriving, tree) {
            arriving.arrived(tree).map_err(failed)?;
        }
        self.store.know_layer(blob.digest, want);
        Ok(())
    }

    fn claim_download(&self, blob: &Descriptor, go_on: &dyn Fn() -> bool) -> Result<Box<dyn DownloadClaim>, BlobError> {
        self.store.claim_download(blob, go_on)
    }
}

fn refused(digest: BlobDigest, why: &dyn std::fmt::Display) -> BlobError {
    BlobError { operation: "check", digest, reason: why.to_string(), fault: BlobFault::Other }
}
