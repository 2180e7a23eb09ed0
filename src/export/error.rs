//! Why a file system could not be exported.

use std::path::PathBuf;

use crate::base::fs::FsError;
use crate::layer;
use crate::oci::blob::BlobError;
use crate::oci::image::ImageError;
use crate::store;

/// Why a file system could not be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    /// The image is damaged, or not for this platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer is missing or damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer cannot be unpacked or packed.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// An operation of the store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A directory is where the image has a file. It is not removed, because what is in it may be needed.
    #[error("cannot replace {}: it is a directory, and the image has a file there", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
}
