//! Manifests and indexes of OCI and Docker (image-spec `manifest.md`, `image-index.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use oci_spec::image::SCHEMA_VERSION;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::json::{null_default, null_values};

use super::descriptor::{Descriptor, INDEX, MANIFEST};
use super::platform::Platform;

/// The most bytes a manifest, index or config may have (S-53).
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// A document that does not match its media type, or is ambiguous (S-54).
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidDocument {
    /// Not JSON of the right shape.
    #[error("not a valid {what}: {source}")]
    Json {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// The position and the reason.
        source: serde_json::Error,
    },
    /// Valid JSON with the wrong meaning, or with two.
    #[error("not a valid {what}: {why}")]
    Shape {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The manifest of an image: its config and its layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Always [`SCHEMA_VERSION`].
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
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that kiln has no use for, as they were read.
    #[serde(flatten, deserialize_with = "without_nulls")]
    pub other: Map<String, Value>,
}

/// A list of manifests, one per platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    /// Always [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The index's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Set on indexes that are not of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that kiln has no use for, as they were read.
    #[serde(flatten, deserialize_with = "without_nulls")]
    pub other: Map<String, Value>,
}

/// An index whose manifests are not parsed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UnparsedIndex<'a> {
    schema_version: u32,
    #[serde(borrow, default)]
    manifests: Option<Vec<&'a RawValue>>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

/// The list of an index without manifests.
#[derive(Deserialize)]
struct EmptyList<'a> {
    #[serde(borrow)]
    manifests: &'a RawValue,
}

impl Manifest {
    /// An OCI manifest.
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// Reads a manifest; a document that could also be an index, or schema 1, is refused (S-54, CVE-2021-41190).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let fields = fields("manifest", bytes)?;
        if fields.contains("manifests") {
            return Err(shape("manifest", "it has both a manifest's and an index's fields".to_owned()));
        }
        if fields.contains("fsLayers") || fields.contains("signatures") {
            return Err(shape(
                "manifest",
                "Docker schema 1 is not supported; push the image again with a current tool".to_owned(),
            ));
        }
        let manifest: Manifest = parse("manifest", bytes)?;
        check_version("manifest", manifest.schema_version)?;
        Ok(manifest)
    }

    /// The bytes to store; equal manifests give equal bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serialize(self)
    }
}

/// The position of a list, without its brackets, and of each element.
type Positions = (Range<usize>, Vec<Range<usize>>);

impl Index {
    /// An OCI index.
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: Some(INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// Reads an index; a document that could also be a manifest is refused (S-54).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let fields = fields("index", bytes)?;
        if fields.contains("layers") || fields.contains("config") {
            return Err(shape("index", "it has both a manifest's and an index's fields".to_owned()));
        }
        let index: Index = parse("index", bytes)?;
        check_version("index", index.schema_version)?;
        Ok(index)
    }

    /// The positions of the manifests in the text of an index, without parsing them; `None`: the index has no list. The
    /// rest is checked as by [`Index::parse`] (S-54).
    pub(crate) fn entries_of(text: &str) -> Result<Option<Positions>, InvalidDocument> {
        let json = |source| InvalidDocument::Json { what: "index", source };
        // From bytes, each entry would be checked for valid UTF-8 by itself.
        let index: UnparsedIndex<'_> = serde_json::from_str(text).map_err(json)?;
        if index.layers.is_some() || index.config.is_some() {
            return Err(shape("index", "it has both a manifest's and an index's fields".to_owned()));
        }
        check_version("index", index.schema_version)?;
        let place = |raw: &RawValue| {
            let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
            start..start + raw.get().len()
        };
        let Some(manifests) = index.manifests else { return Ok(None) };
        let lines: Vec<Range<usize>> = manifests.into_iter().map(place).collect();
        if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
            return Ok(Some((first.start..last.end, lines)));
        }
        let list = serde_json::from_str::<EmptyList<'_>>(text).map_err(json)?.manifests;
        let inside = place(list);
        Ok(Some((inside.start + 1..inside.end - 1, lines)))
    }

    /// Reads one entry.
    pub(crate) fn read_entry(text: &str) -> Result<Descriptor, InvalidDocument> {
        parse("index", text.as_bytes())
    }

    /// The text of an entry; equal entries give equal texts.
    pub(crate) fn write_entry(entry: &Descriptor) -> String {
        String::from_utf8_lossy(&serialize(entry)).into_owned()
    }

    /// The bytes to store; equal indexes give equal bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serialize(self)
    }

    /// The manifest that suits `platform` best; the first of equals.
    pub(crate) fn select(&self, platform: &Platform) -> Option<&Descriptor> {
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

/// The fields of a document that are not `null` (N-20).
fn fields(what: &'static str, bytes: &[u8]) -> Result<BTreeSet<String>, InvalidDocument> {
    let fields: BTreeMap<String, Option<IgnoredAny>> = parse(what, bytes)?;
    Ok(fields.into_iter().filter_map(|(name, value)| value.map(|_| name)).collect())
}

fn check_version(what: &'static str, version: u32) -> Result<(), InvalidDocument> {
    match version {
        SCHEMA_VERSION => Ok(()),
        other => Err(shape(what, format!("schemaVersion {other} instead of {SCHEMA_VERSION}"))),
    }
}

/// Unknown fields; `null` means absent in them as in others (N-20).
fn without_nulls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let mut fields = Map::deserialize(deserializer)?;
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}

pub(super) fn shape(what: &'static str, why: String) -> InvalidDocument {
    InvalidDocument::Shape { what, why }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, InvalidDocument> {
    serde_json::from_slice(bytes).map_err(|source| InvalidDocument::Json { what, source })
}

/// Serialising cannot fail: kiln's documents have only string keys.
#[expect(clippy::expect_used, reason = "an invariant of our own types, not of input")]
pub(super) fn serialize<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("kiln's own documents serialise")
}

/// Checks that a reader takes `null` for an absent field in every member of `all` except `required`.
#[cfg(test)]
pub(super) fn null_is_absent<T: PartialEq + std::fmt::Debug>(
    all: &serde_json::Value,
    required: &[&str],
    read: &dyn Fn(&serde_json::Value) -> Result<T, String>,
) {
    fn members(value: &serde_json::Value, at: &str, out: &mut Vec<(String, String)>) {
        let inside: Vec<(String, &serde_json::Value)> = match value {
            serde_json::Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
            serde_json::Value::Array(list) => list.iter().enumerate().map(|(at, v)| (at.to_string(), v)).collect(),
            _ => Vec::new(),
        };
        for (name, inner) in inside {
            if value.is_object() {
                out.push((at.to_owned(), name.clone()));
            }
            members(inner, &format!("{at}/{}", name.replace('/', "~1")), out);
        }
    }
    let mut paths = Vec::new();
    members(all, "", &mut paths);
    assert!(paths.len() > 10, "{paths:?}");
    for (parent, name) in paths {
        let whole = format!("{parent}/{name}");
        // The keys of these maps are not fields.
        let is_map = ["annotations", "Labels", "ExposedPorts", "Volumes"].iter().any(|map| parent.ends_with(map));
        if is_map || required.iter().any(|required| whole.ends_with(required)) {
            continue;
        }
        let (mut null, mut absent) = (all.clone(), all.clone());
        let object = |value: &mut serde_json::Value| {
            value.pointer_mut(&parent).and_then(|v| v.as_object_mut().cloned()).expect("an object")
        };
        let (mut with, mut without) = (object(&mut null), object(&mut absent));
        with.insert(name.clone(), serde_json::Value::Null);
        without.remove(&name);
        *null.pointer_mut(&parent).expect("there") = with.into();
        *absent.pointer_mut(&parent).expect("there") = without.into();
        let (null, absent) = (read(&null), read(&absent));
        assert!(null.is_ok(), "{whole}: {null:?}");
        assert_eq!(null, absent, "{whole}");
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{ImageIndex, ImageManifest};
    use serde_json::json;

    use super::super::descriptor::{CONFIG, LAYER_GZIP};
    use super::*;
    use crate::base::digest::Sha256;

    #[test]
    fn null_in_manifest_or_index_means_absent_n_20() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor = json!({
            "mediaType": MANIFEST, "digest": digest, "size": 1, "urls": ["u"], "annotations": {"a": "b"},
            "platform": {
                "architecture": "arm64", "os": "linux", "os.version": "1", "os.features": ["f"], "variant": "v8",
            },
            "artifactType": "t", "data": "e30=",
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "t", "config": descriptor, "layers": [descriptor],
            "annotations": {"a": "b"}, "subject": descriptor,
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor], "annotations": {"a": "b"},
        });
        let words = |e: InvalidDocument| e.to_string();
        let bytes = |value: &Value| value.to_string().into_bytes();
        let required = [
            "schemaVersion",
            "/config",
            "0/mediaType",
            "config/mediaType",
            "subject/mediaType",
            "digest",
            "size",
            "/architecture",
            "/os",
        ];
        null_is_absent(&manifest, &required, &|value| Manifest::parse(&bytes(value)).map_err(words));
        null_is_absent(&index, &required, &|value| Index::parse(&bytes(value)).map_err(words));
        let mut odd = manifest.clone();
        odd["manifests"] = Value::Null;
        odd["annotations"]["a"] = Value::Null;
        assert_eq!(Manifest::parse(&bytes(&odd)).expect("valid").annotations["a"], "");
        odd["manifests"] = json!([]);
        assert!(Manifest::parse(&bytes(&odd)).is_err(), "it could be an index too");
        let mut odd = index.clone();
        (odd["layers"], odd["config"]) = (Value::Null, Value::Null);
        assert!(Index::parse(&bytes(&odd)).is_ok());
    }

    #[test]
    fn manifest_and_index_keep_unknown_fields() {
        let digest = Sha256::of(b"x");
        let descriptor = format!(r#"{{"mediaType":"{LAYER_GZIP}","digest":"{digest}","size":1,"x":{{"y":1}}}}"#);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}],"subject":{descriptor},"a":1,"b":[2]}}"#
        );
        assert_eq!(Manifest::parse(manifest.as_bytes()).expect("valid").to_bytes(), manifest.as_bytes());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}],"annotations":{{"k":"v"}},"a":{{}}}}"#);
        assert_eq!(Index::parse(index.as_bytes()).expect("valid").to_bytes(), index.as_bytes());
    }

    #[test]
    fn oci_spec_reads_written_manifests_and_indexes() {
        let config = Descriptor::of(CONFIG, b"{}");
        let mut layer = Descriptor::of(LAYER_GZIP, b"layer");
        layer.annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let mut manifest = Manifest::new(config, vec![layer]);
        manifest.annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let bytes = manifest.to_bytes();
        let read = ImageManifest::from_reader(&*bytes).expect("a manifest");
        assert_eq!((read.schema_version(), read.layers().len()), (SCHEMA_VERSION, 1));
        assert_eq!(read.config().digest().as_ref(), manifest.config.digest.to_string());
        assert_eq!(read.to_string().expect("JSON").into_bytes(), bytes);
        let mut entry = Descriptor::of(MANIFEST, &bytes);
        entry.platform = Some(Platform::new("linux", "arm64"));
        let bytes = Index::new(vec![entry]).to_bytes();
        let read = ImageIndex::from_reader(&*bytes).expect("an index");
        assert_eq!(read.to_string().expect("JSON").into_bytes(), bytes);
    }
}
