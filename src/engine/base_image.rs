//! A base image, pinned.

use serde::{Deserialize, Serialize};

use crate::oci::config::ImageConfig;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::oci::image::Image;

/// An image whose name has been looked up: from here on only digests count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BaseImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config, as read.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// A name in the store stands for it: then its layers are known to be what its config says.
    pub named: bool,
}

impl From<Image> for BaseImage {
    fn from(image: Image) -> Self {
        let pairs = image.config.rootfs.diff_ids.iter().zip(&image.manifest.layers);
        let layers = pairs.map(|(&diff_id, blob)| Layer { diff_id, blob: blob.clone() }).collect();
        Self { manifest: image.descriptor, config: image.config, layers, named: false }
    }
}
