//! Why layers could not become a root.

use crate::base::digest::DiffId;
use crate::base::fs::FsError;
use crate::layer;
use crate::oci::blob::BlobError;

/// Layers could not be unpacked, or not become a root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer could not be unpacked or read.
    #[error("unpack layer {diff_id}: {source}")]
    Layer {
        /// Which.
        diff_id: DiffId,
        /// Why.
        source: layer::Error,
    },
    /// Its blob could not be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A root could not be copied together.
    #[error("copy layers into a root: {0}")]
    Copy(#[source] layer::Error),
    /// More layers than the kernel stacks.
    #[error("the image has {count} layers; overlayfs supports {max}")]
    TooManyLayers {
        /// Layers to be stacked.
        count: usize,
        /// Layers that can be stacked.
        max: usize,
    },
    /// The file system said no.
    #[error(transparent)]
    Fs(#[from] FsError),
}
