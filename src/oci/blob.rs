//! The two ports: who has blobs, and who takes them.

use std::io::Read;

use crate::base::digest::BlobDigest;
use crate::base::sparse::SparseRead;

use super::descriptor::Descriptor;

/// Why a blob could not be had or stored.
#[derive(Debug, thiserror::Error)]
#[error("{operation} blob {digest}: {reason}")]
pub struct BlobError {
    /// The verb: `open`, `store`, `fetch`.
    pub operation: &'static str,
    /// Its operand.
    pub digest: BlobDigest,
    /// What went wrong, one line.
    pub reason: String,
    /// The blob is not there (as opposed to unreadable or wrong).
    pub missing: bool,
}

/// Somewhere blobs can be read from.
pub trait BlobSource: Sync {
    /// Ok: a reader that yields exactly the descriptor's bytes, or fails: size and digest are verified by the time it
    /// returns `Ok(0)`. Read to the end before trusting any of it.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError>;
}

/// Somewhere blobs can be put.
pub trait BlobSink: Sync {
    /// Whether the content is already there; a cheap question, not a verification.
    fn has(&self, blob: &Descriptor) -> Result<bool, BlobError>;

    /// Ok: the content is stored under its digest, not that this call stored it. `content` is verified on the way in;
    /// on any error nothing becomes visible.
    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError>;

    /// Waits until nobody else brings the blob, as long as `go_on` says so. Ok: what is returned keeps others waiting;
    /// somebody may have brought the blob meanwhile.
    fn bring(&self, _blob: &Descriptor, _go_on: &dyn Fn() -> bool) -> Result<Box<dyn Bringing>, BlobError> {
        Ok(Box::new(()))
    }
}

/// Held by whoever brings a blob.
pub trait Bringing {
    /// It cannot be had: those who wait need not try one after the other.
    fn failed(self: Box<Self>) {}
}

/// Nobody is kept waiting.
impl Bringing for () {}

/// Somewhere blobs can be read from and put: a store.
pub trait BlobStore: BlobSource + BlobSink {}

impl<T: BlobSource + BlobSink> BlobStore for T {}
