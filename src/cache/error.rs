//! Errors of a cache.

use crate::base::fs::FsError;
use crate::oci::blob::BlobError;

/// Why a cache failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files could not be read or written.
    #[error("cannot use the build cache: {0}")]
    Fs(#[from] FsError),
    /// A blob that it holds could not be brought into the store.
    #[error("cannot use the build cache: {0}")]
    Blob(#[from] BlobError),
}
