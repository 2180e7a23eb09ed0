//! One image as a whole: index → manifest → config, checked against each other.

use std::collections::BTreeSet;
use std::io::Read;

use crate::base::digest::BlobDigest;

use super::blob::{BlobError, BlobSource};
use super::config::ImageConfig;
use super::descriptor::{CONFIG, DOCKER_CONFIG, Descriptor};
use super::manifest::{Index, InvalidDocument, MAX_DOCUMENT, Manifest};
use super::platform::Platform;

/// An index may point at an index, but not for ever (S-55).
const MAX_INDEX_DEPTH: usize = 4;

/// Why there is no image to be had from a descriptor.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// An index that has nothing for the machine asked for.
    #[error("{digest} has no image for {want}; it has {}", .have.join(", "))]
    NoPlatform {
        /// The index.
        digest: BlobDigest,
        /// The platform asked for.
        want: String,
        /// What there is.
        have: Vec<String>,
    },
    /// A manifest, index or config that is not one.
    #[error("{digest}: {source}")]
    Document {
        /// The blob.
        digest: BlobDigest,
        /// What is wrong with it.
        source: InvalidDocument,
    },
    /// A manifest and its config contradict each other (S-56), or it is no image (S-54).
    #[error("{digest} is not a usable image: {why}")]
    NotAnImage {
        /// The manifest.
        digest: BlobDigest,
        /// Why not.
        why: String,
    },
    /// A document is missing or wrong.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// One image: manifest and config, each as data and as the bytes its digest is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
}

impl Image {
    /// Reads manifest and config from anywhere; an index is followed to what `platform` runs best.
    ///
    /// Ok: both are what their digests say, are image documents, and speak of equally many layers (S-54…S-56).
    pub fn read(source: &dyn BlobSource, target: &Descriptor, platform: &Platform) -> Result<Self, ImageError> {
        let mut target = target.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            if !target.is_index() {
                return Self::read_manifest(source, target);
            }
            let bytes = read_document(source, &target)?;
            let index =
                Index::parse(&bytes).map_err(|source| ImageError::Document { digest: target.digest, source })?;
            let Some(next) = index.select(platform).or_else(|| only(&index)) else {
                let have = index.manifests.iter().filter_map(|m| m.platform.as_ref().map(ToString::to_string));
                return Err(ImageError::NoPlatform {
                    digest: target.digest,
                    want: platform.to_string(),
                    have: have.collect(),
                });
            };
            target = next.clone();
        }
        Err(ImageError::NotAnImage { digest: target.digest, why: "indexes are nested too deep".to_owned() })
    }

    fn read_manifest(source: &dyn BlobSource, descriptor: Descriptor) -> Result<Self, ImageError> {
        let digest = descriptor.digest;
        if !descriptor.is_manifest() {
            let why = format!("its media type is {}", descriptor.media_type);
            return Err(ImageError::NotAnImage { digest, why });
        }
        let bytes = read_document(source, &descriptor)?;
        let manifest = Manifest::parse(&bytes).map_err(|source| ImageError::Document { digest, source })?;
        let kind = manifest.config.media_type.as_str();
        if !matches!(kind, CONFIG | DOCKER_CONFIG) {
            let why = format!("it is an artifact: its config has media type {kind}");
            return Err(ImageError::NotAnImage { digest, why });
        }
        let bytes = read_document(source, &manifest.config)?;
        let config = ImageConfig::parse(&bytes)
            .map_err(|source| ImageError::Document { digest: manifest.config.digest, source })?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let (has, says) = (manifest.layers.len(), config.rootfs.diff_ids.len());
            let why = format!("its manifest has {has} layers, its config speaks of {says}");
            return Err(ImageError::NotAnImage { digest, why });
        }
        Ok(Self { descriptor, manifest, config })
    }

    /// Bytes of all layers as stored, equal ones counted once.
    pub fn size(&self) -> u64 {
        let unique: BTreeSet<_> = self.manifest.layers.iter().map(|l| (l.digest, l.size)).collect();
        unique.iter().map(|(_, size)| size).sum()
    }
}

/// Reads a manifest, index or config, refusing oversized ones unread (S-53).
fn read_document(source: &dyn BlobSource, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
    if blob.size > MAX_DOCUMENT {
        let why = format!("{} of {} bytes, more than {MAX_DOCUMENT}", blob.media_type, blob.size);
        return Err(ImageError::NotAnImage { digest: blob.digest, why });
    }
    let mut bytes = Vec::new();
    source.open(blob)?.read_to_end(&mut bytes).map_err(|e| BlobError {
        operation: "read",
        digest: blob.digest,
        reason: e.to_string(),
        missing: false,
    })?;
    Ok(bytes)
}

/// An index with a single manifest that names no platform needs no choice.
fn only(index: &Index) -> Option<&Descriptor> {
    match index.manifests.as_slice() {
        [one] if one.platform.is_none() => Some(one),
        _ => None,
    }
}
