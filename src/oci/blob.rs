//! The ports: where blobs can be read, and where they can be stored.

use std::io::Read;
use std::ops::Range;

use crate::base::digest::BlobDigest;
use crate::base::sparse::SparseRead;

use super::descriptor::Descriptor;
use super::reference::Reference;

/// Why a blob could not be read or stored.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} blob {digest}: {reason}")]
pub struct BlobError {
    /// The verb: `open`, `store`, `fetch`.
    pub operation: &'static str,
    /// The blob.
    pub digest: BlobDigest,
    /// The cause, on one line.
    pub reason: String,
    /// What kind of cause it is.
    pub fault: BlobFault,
}

/// What callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobFault {
    /// The blob is not there.
    Missing,
    /// The bytes are not those of the blob: their size or digest differs.
    Mismatch,
    /// Anything else.
    Other,
}

/// A place to read blobs from.
pub(crate) trait BlobSource: Sync {
    /// Ok: a reader of exactly the descriptor's bytes. It verifies size and digest before it returns `Ok(0)`: read to the
    /// end before trusting any of the content.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError>;

    /// Some bytes of a blob, unverified, if they can be had without reading those before them.
    fn part(&self, _blob: &Descriptor, _range: Range<u64>) -> Option<Box<dyn Read + Send>> {
        None
    }

    /// The same source to be kept, if this one is for a moment only.
    fn kept(&self) -> Option<Box<dyn BlobSource + Send>> {
        None
    }
}

/// A place to store blobs.
pub(crate) trait BlobSink: Sync {
    /// Whether the content is stored. Nothing is verified.
    fn has(&self, blob: &Descriptor) -> Result<bool, BlobError>;

    /// Ok: the content is stored under its digest, though perhaps not by this call. `content` is verified; after an error
    /// nothing is visible.
    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError>;

    /// Whether the store may have an image of this name already. A name that it does not have is read without asking first
    /// whether it has changed.
    fn may_know(&self, _name: &Reference) -> bool {
        true
    }

    /// Waits while another process downloads the blob, as long as `go_on` returns true. Ok: other processes wait until
    /// the claim is dropped; the blob may have been stored meanwhile.
    fn claim_download(
        &self,
        _blob: &Descriptor,
        _go_on: &dyn Fn() -> bool,
    ) -> Result<Box<dyn DownloadClaim>, BlobError> {
        Ok(Box::new(()))
    }
}

/// The right to download a blob.
pub(crate) trait DownloadClaim {
    /// The download failed: the processes that wait need not try one after the other.
    fn failed(self: Box<Self>) {}
}

/// A claim that no process waits for.
impl DownloadClaim for () {}

/// A store: blobs can be read and stored.
pub(crate) trait BlobStore: BlobSource + BlobSink {}

impl<T: BlobSource + BlobSink> BlobStore for T {}
