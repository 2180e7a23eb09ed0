//! Descriptors and media types (image-spec `descriptor.md`, `media-types.md`).

use std::collections::BTreeMap;

pub(crate) use oci_spec::image::ANNOTATION_REF_NAME;
use oci_spec::image::{Digest, MediaType, Sha256Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::digest::{BlobDigest, DiffId, InvalidDigest, Sha256};
use crate::base::json::{null_default, null_values};

use super::platform::Platform;

/// `application/vnd.oci.image.index.v1+json`
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.manifest.v1+json`
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.config.v1+json`
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An uncompressed layer.
pub(crate) const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// A gzip layer.
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Docker's manifest list.
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, schema 2.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image config.
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Points at content: type, digest, size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub(crate) struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its size.
    pub size: u64,
    /// Other places that may have the content; never fetched (S-57).
    pub urls: Vec<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// In an index: the platform of the manifest.
    pub platform: Option<Platform>,
    /// The type of an artifact manifest.
    pub artifact_type: Option<String>,
    /// Fields that kiln has no use for, such as `data`, as they were read.
    pub other: Map<String, Value>,
}

/// A descriptor as JSON, in the specification's order. Not `oci-spec`'s own: that loses unknown fields and the order of
/// annotations.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl TryFrom<Wire> for Descriptor {
    type Error = InvalidDigest;

    fn try_from(wire: Wire) -> Result<Self, InvalidDigest> {
        let Wire { media_type, digest, size, urls, annotations, platform, artifact_type, mut other } = wire;
        other.retain(|_, value| !value.is_null());
        let (media_type, digest) = (media_type.to_string(), digest.as_ref().parse()?);
        Ok(Self { media_type, digest, size, urls, annotations, platform, artifact_type, other })
    }
}

impl From<Descriptor> for Wire {
    #[expect(clippy::expect_used, reason = "an invariant of our own type, not of input")]
    fn from(descriptor: Descriptor) -> Self {
        let Descriptor { media_type, digest, size, urls, annotations, platform, artifact_type, other } = descriptor;
        let digest: Sha256Digest = digest.hex().parse().expect("64 hexadecimal digits");
        let (media_type, digest) = (media_type.as_str().into(), digest.into());
        Self { media_type, digest, size, urls, annotations, platform, artifact_type, other }
    }
}

impl Descriptor {
    /// A descriptor with the three mandatory fields.
    pub(crate) fn new(media_type: &str, digest: BlobDigest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            other: Map::new(),
        }
    }

    /// The descriptor of `bytes`.
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, BlobDigest(Sha256::of(bytes)), bytes.len() as u64)
    }

    /// Whether the content is an index (OCI or Docker).
    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), INDEX | DOCKER_INDEX)
    }

    /// Whether the content is an image manifest (OCI or Docker).
    pub(crate) fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), MANIFEST | DOCKER_MANIFEST)
    }
}

/// A layer as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The stored blob, usually compressed.
    pub blob: Descriptor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_those_of_the_specification() {
        for (ours, theirs) in [
            (INDEX, MediaType::ImageIndex),
            (MANIFEST, MediaType::ImageManifest),
            (CONFIG, MediaType::ImageConfig),
            (LAYER_TAR, MediaType::ImageLayer),
            (LAYER_GZIP, MediaType::ImageLayerGzip),
        ] {
            assert_eq!(ours, theirs.to_string());
        }
    }

    #[test]
    fn descriptor_keeps_its_bytes_and_unknown_fields() {
        let digest = Sha256::of(b"x");
        let text = format!(
            concat!(
                r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":7,"urls":["u"],"annotations":{{"a":"1","b":"2"}},"#,
                r#""platform":{{"architecture":"amd64","os":"windows","os.version":"1","os.features":["f"],"variant":"v2"}},"#,
                r#""artifactType":"t/x","data":"e30=","zebra":{{"k":[1,null]}}}}"#
            ),
            MANIFEST = MANIFEST,
            digest = digest,
        );
        let descriptor: Descriptor = serde_json::from_str(&text).expect("valid");
        assert_eq!(serde_json::to_string(&descriptor).expect("JSON"), text);
        let plain = Descriptor::of(LAYER_TAR, b"x");
        let want = format!(r#"{{"mediaType":"{LAYER_TAR}","digest":"{digest}","size":1}}"#);
        assert_eq!(serde_json::to_string(&plain).expect("JSON"), want);
    }

    #[test]
    fn ambiguous_or_foreign_descriptor_is_refused_s54() {
        let digest = Sha256::of(b"x");
        for bad in [
            format!(r#"{{"mediaType":"a","digest":"{digest}","digest":"{digest}","size":1}}"#),
            format!(r#"{{"mediaType":"a","digest":"{digest}","size":1,"annotations":{{}},"annotations":{{}}}}"#),
            format!(r#"{{"mediaType":"a","digest":"sha512:{}","size":1}}"#, "0".repeat(128)),
            format!(r#"{{"mediaType":"a","digest":"{digest}"}}"#),
            format!(r#"{{"mediaType":"a","digest":"{digest}","size":-1}}"#),
        ] {
            assert!(serde_json::from_str::<Descriptor>(&bad).is_err(), "{bad}");
        }
    }
}
