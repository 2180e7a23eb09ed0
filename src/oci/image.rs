//! An image as a whole: index → manifest → config, checked against each other.

use std::collections::BTreeSet;
use std::io::Read;

use crate::base::digest::BlobDigest;

use super::blob::{BlobError, BlobFault, BlobSource};
use super::config::ImageConfig;
use super::descriptor::{CONFIG, DOCKER_CONFIG, Descriptor};
use super::manifest::{Index, InvalidDocument, MAX_DOCUMENT, Manifest};
use super::platform::Platform;

/// The deepest nesting of indexes (S-55).
const MAX_INDEX_DEPTH: usize = 4;

/// Why a descriptor gives no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The index has no image for the platform.
    #[error("{digest} has no image for {want}; it has {}", .have.join(", "))]
    NoPlatform {
        /// The index.
        digest: BlobDigest,
        /// The requested platform.
        want: String,
        /// The platforms that it has.
        have: Vec<String>,
    },
    /// An invalid manifest, index or config.
    #[error("{digest}: {source}")]
    Document {
        /// The blob.
        digest: BlobDigest,
        /// What is wrong.
        source: InvalidDocument,
    },
    /// A manifest that contradicts its config (S-56), or is not of an image (S-54).
    #[error("{digest} is not a usable image: {why}")]
    NotAnImage {
        /// The manifest.
        digest: BlobDigest,
        /// What is wrong.
        why: String,
    },
    /// A document is missing, or does not have its digest.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// An image: its manifest and config.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Image {
    /// The descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
}

impl Image {
    /// Reads manifest and config; of an index, those of the image that suits `platform` best.
    ///
    /// Ok: both have their digests, are documents of an image, and list equally many layers (S-54…S-56).
    pub(crate) fn read(source: &dyn BlobSource, target: &Descriptor, platform: &Platform) -> Result<Self, ImageError> {
        let mut target = target.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            if !target.is_index() {
                return Self::read_manifest(source, target);
            }
            let bytes = read_document(source, &target)?;
            let index =
                Index::parse(&bytes).map_err(|source| ImageError::Document { digest: target.digest, source })?;
            let Some(next) = index.select(platform).or_else(|| only(&index)) else {
                // Attestations are for no platform.
                let platforms =
                    index.manifests.iter().filter_map(|m| m.platform.as_ref().filter(|p| p.os != "unknown"));
                let have = platforms.map(ToString::to_string);
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
            let why = format!("its manifest lists {has} layers, its config {says}");
            return Err(ImageError::NotAnImage { digest, why });
        }
        Ok(Self { descriptor, manifest, config })
    }

    /// The size of all layers as stored; equal ones count once.
    pub(crate) fn size(&self) -> u64 {
        let unique: BTreeSet<_> = self.manifest.layers.iter().map(|l| (l.digest, l.size)).collect();
        unique.iter().map(|(_, size)| size).sum()
    }
}

/// The manifests that a manifest or index stands for, each once, with their descriptors as they are listed.
///
/// Ok: each has its digest. They may be of artifacts, and their blobs may be missing.
pub(crate) fn manifests(
    source: &dyn BlobSource,
    target: &Descriptor,
) -> Result<Vec<(Descriptor, Manifest)>, ImageError> {
    let mut found: Vec<(Descriptor, Manifest)> = Vec::new();
    let mut todo = vec![(target.clone(), 0)];
    let mut seen = BTreeSet::new();
    while let Some((next, depth)) = todo.pop() {
        let digest = next.digest;
        // Indexes may list each other many times over.
        if !seen.insert(digest) {
            continue;
        }
        let invalid = |source| ImageError::Document { digest, source };
        if next.is_index() {
            if depth == MAX_INDEX_DEPTH {
                return Err(ImageError::NotAnImage { digest, why: "indexes are nested too deep".to_owned() });
            }
            let index = Index::parse(&read_document(source, &next)?).map_err(invalid)?;
            todo.extend(index.manifests.into_iter().rev().map(|manifest| (manifest, depth + 1)));
        } else if !next.is_manifest() {
            let why = format!("its media type is {}", next.media_type);
            return Err(ImageError::NotAnImage { digest, why });
        } else {
            let manifest = Manifest::parse(&read_document(source, &next)?).map_err(invalid)?;
            found.push((next, manifest));
        }
    }
    Ok(found)
}

/// Reads a manifest, index or config; one that is too large is refused unread (S-53).
fn read_document(source: &dyn BlobSource, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
    if blob.size > MAX_DOCUMENT {
        let why = format!("{} of {} bytes, more than {MAX_DOCUMENT}", blob.media_type, blob.size);
        return Err(ImageError::NotAnImage { digest: blob.digest, why });
    }
    let mut bytes = Vec::with_capacity(blob.size as usize + 1);
    source.open(blob)?.read_to_end(&mut bytes).map_err(|e| BlobError {
        operation: "read",
        digest: blob.digest,
        reason: e.to_string(),
        fault: BlobFault::Other,
    })?;
    Ok(bytes)
}

/// The manifest of an index with a single one that names no platform.
fn only(index: &Index) -> Option<&Descriptor> {
    match index.manifests.as_slice() {
        [one] if one.platform.is_none() => Some(one),
        _ => None,
    }
}
