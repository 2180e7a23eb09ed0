//! Manifests and indexes (image-spec `manifest.md`, `image-index.md`), OCI and Docker spellings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, INDEX, MANIFEST};
use super::platform::Platform;

/// The most bytes a manifest, index or config may have (S-53).
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// A document that is not what its media type says, or ambiguous (S-54).
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    /// Not JSON of the right shape.
    #[error("not a valid {what}: {source}")]
    Json {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// Where it fails.
        source: serde_json::Error,
    },
    /// Valid JSON that means something else, or two things.
    #[error("not a valid {what}: {why}")]
    Shape {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// One image: its config and its layers, bottom first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Set on artifacts that are not images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// Layer blobs, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free-form facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Free-form facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a manifest; a document that could also be an index, or schema 1, is refused (S-54, CVE-2021-41190).
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let fields: BTreeMap<String, &serde_json::value::RawValue> = parse("manifest", bytes)?;
        if fields.contains_key("manifests") {
            return Err(shape("manifest", "it has both a manifest's and an index's fields".to_owned()));
        }
        if fields.contains_key("fsLayers") || fields.contains_key("signatures") {
            return Err(shape(
                "manifest",
                "Docker schema 1 is not supported; push the image again with a current tool".to_owned(),
            ));
        }
        let manifest: Manifest = parse("manifest", bytes)?;
        if manifest.schema_version != 2 {
            return Err(shape("manifest", format!("schemaVersion {} instead of 2", manifest.schema_version)));
        }
        Ok(manifest)
    }

    /// The bytes to store; equal manifests give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serialize(self)
    }
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests, annotations: BTreeMap::new() }
    }

    /// Reads an index; a document that could also be a manifest is refused (S-54).
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let fields: BTreeMap<String, &serde_json::value::RawValue> = parse("index", bytes)?;
        if fields.contains_key("layers") || fields.contains_key("config") {
            return Err(shape("index", "it has both a manifest's and an index's fields".to_owned()));
        }
        let index: Index = parse("index", bytes)?;
        if index.schema_version != 2 {
            return Err(shape("index", format!("schemaVersion {} instead of 2", index.schema_version)));
        }
        Ok(index)
    }

    /// The bytes to store; equal indexes give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serialize(self)
    }

    /// The manifest that `platform` runs best; the first of equals.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .filter_map(|m| {
                let p = m.platform.clone()?.normalized();
                platform.distance(&p).map(|d| (d, m))
            })
            .min_by_key(|(d, _)| *d)
            .map(|(_, m)| m)
    }
}

pub(super) fn shape(what: &'static str, why: String) -> InvalidDocument {
    InvalidDocument::Shape { what, why }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, InvalidDocument> {
    serde_json::from_slice(bytes).map_err(|source| InvalidDocument::Json { what, source })
}

/// Documents of ours have only string keys and no floats, so serialising them cannot fail.
#[expect(clippy::expect_used, reason = "an invariant of our own types, not of input")]
pub(super) fn serialize<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("our own documents serialise")
}
