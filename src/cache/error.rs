//! Cache errors.

use crate::base::fs::FsError;
use crate::oci::blob::BlobError;

/// Why a cache operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file of the cache cannot be read or written.
    #[error("cannot use the build cache: {0}")]
    Fs(#[from] FsError),
    /// A blob cannot be copied from the cache to the store.
    #[error("cannot use the build cache: {0}")]
    Blob(#[from] BlobError),
}
