//! Why a file system could not be written out.

use std::path::PathBuf;

use crate::base::fs::FsError;
use crate::layer;
use crate::oci::blob::BlobError;
use crate::oci::image::ImageError;
use crate::store;

/// Why a file system could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The image is none.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer is missing or damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer cannot be unpacked or packed.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file system said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A directory stands where the image has something else; what is in it may be somebody's.
    #[error("{} is a directory, the image has a file there", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
}
