//! Why a shared cache did not do what it was asked for.

use std::sync::Arc;

use crate::base::fs::FsError;
use crate::oci::blob::BlobError;
use crate::registry::RegistryError;
use crate::transport::HttpError;

/// Why a shared cache failed. The build goes on without it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store or service failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A file of a cache in a directory cannot be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A blob cannot be copied.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// What it answered is not an entry, or one for something else.
    #[error("{name}: {why}")]
    Invalid {
        /// The entry that was asked for.
        name: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// It does not know blobs yet that it has just said to have: somebody else is writing them, too.
    #[error("it lost a blob: {0}")]
    Behind(RegistryError),
    /// It failed before, and is not asked again.
    #[error(transparent)]
    Known(Arc<RemoteError>),
    /// It took too long.
    #[error("no answer within {0} s")]
    Late(u64),
}
