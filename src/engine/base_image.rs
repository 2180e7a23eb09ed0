//! A base image, pinned by digest.

use serde::{Deserialize, Serialize};

use crate::oci::config::ImageConfig;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::oci::image::Image;

/// An image whose name has been resolved: from here on only digests are used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BaseImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config, as read.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// A tag in the store points to its manifest: its layers have been verified against its config.
    pub named: bool,
}

impl From<Image> for BaseImage {
    fn from(image: Image) -> Self {
        let pairs = image.config.rootfs.diff_ids.iter().zip(&image.manifest.layers);
        let layers = pairs.map(|(&diff_id, blob)| Layer { diff_id, blob: blob.clone() }).collect();
        Self { manifest: image.descriptor, config: image.config, layers, named: false }
    }
}
