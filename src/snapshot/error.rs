//! Why layers could not become a root.

use crate::base::digest::DiffId;
use crate::base::fs::FsError;
use crate::layer;
use crate::oci::blob::BlobError;

/// Layers could not be unpacked, or not become a root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer could not be unpacked or read.
    #[error("cannot unpack layer {diff_id}: {source}")]
    Layer {
        /// Which.
        diff_id: DiffId,
        /// Why.
        source: layer::Error,
    },
    /// A blob is missing or damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Layers could not be copied into a root.
    #[error("cannot copy layers into a root: {0}")]
    Copy(#[source] layer::Error),
    /// Overlayfs does not support that many layers.
    #[error("the image has {count} layers; overlayfs supports {max}")]
    TooManyLayers {
        /// Layers to be stacked.
        count: usize,
        /// Layers that can be stacked.
        max: usize,
    },
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}
