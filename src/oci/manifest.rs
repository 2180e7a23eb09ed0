//! Manifests and indexes (image-spec `manifest.md`, `image-index.md`), OCI and Docker spellings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::json::{null_default, null_values};

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
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// Free-form facts.
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
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
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// Free-form facts.
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index whose manifests are not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unread<'a> {
    schema_version: u32,
    #[serde(borrow, default)]
    manifests: Option<Vec<&'a RawValue>>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

/// An index that has none.
#[derive(Deserialize)]
struct Empty<'a> {
    #[serde(borrow)]
    manifests: &'a RawValue,
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

/// Where a list is between its brackets, and each of its elements.
type Places = (Range<usize>, Vec<Range<usize>>);

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests, annotations: BTreeMap::new() }
    }

    /// Reads an index; a document that could also be a manifest is refused (S-54).
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let fields = fields("index", bytes)?;
        if fields.contains("layers") || fields.contains("config") {
            return Err(shape("index", "it has both a manifest's and an index's fields".to_owned()));
        }
        let index: Index = parse("index", bytes)?;
        if index.schema_version != 2 {
            return Err(shape("index", format!("schemaVersion {} instead of 2", index.schema_version)));
        }
        Ok(index)
    }

    /// Where in the text of an index its list of manifests is, and each of them: what they say is not looked at.
    /// `None`: it has no list. Ok: what [`Index::parse`] would say of the rest (S-54).
    pub fn entries_of(bytes: &[u8]) -> Result<Option<Places>, InvalidDocument> {
        let index: Unread<'_> = parse("index", bytes)?;
        if index.layers.is_some() || index.config.is_some() {
            return Err(shape("index", "it has both a manifest's and an index's fields".to_owned()));
        }
        if index.schema_version != 2 {
            return Err(shape("index", format!("schemaVersion {} instead of 2", index.schema_version)));
        }
        let place = |raw: &RawValue| {
            let start = raw.get().as_ptr().addr() - bytes.as_ptr().addr();
            start..start + raw.get().len()
        };
        let Some(manifests) = index.manifests else { return Ok(None) };
        let lines: Vec<Range<usize>> = manifests.into_iter().map(place).collect();
        if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
            return Ok(Some((first.start..last.end, lines)));
        }
        let list = parse::<Empty<'_>>("index", bytes)?.manifests;
        let inside = place(list);
        Ok(Some((inside.start + 1..inside.end - 1, lines)))
    }

    /// Reads one entry.
    pub fn read_entry(text: &str) -> Result<Descriptor, InvalidDocument> {
        parse("index", text.as_bytes())
    }

    /// The text of an entry; equal entries give equal texts.
    pub fn write_entry(entry: &Descriptor) -> String {
        String::from_utf8_lossy(&serialize(entry)).into_owned()
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

/// The fields that a document has. One that is `null` is none (N-20).
fn fields(what: &'static str, bytes: &[u8]) -> Result<BTreeSet<String>, InvalidDocument> {
    let fields: BTreeMap<String, Option<IgnoredAny>> = parse(what, bytes)?;
    Ok(fields.into_iter().filter_map(|(name, value)| value.map(|_| name)).collect())
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

/// Holds a reader to it that every member of `all` except `required` may be `null`, and then is as if it was not there.
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
        // What a free map holds is no field.
        let free = ["annotations", "Labels", "ExposedPorts", "Volumes"].iter().any(|map| parent.ends_with(map));
        if free || required.iter().any(|required| whole.ends_with(required)) {
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
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn null_means_absent_in_every_field_of_a_manifest_n_20() {
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
        let required =
            ["schemaVersion", "/config", "0/mediaType", "config/mediaType", "digest", "size", "/architecture", "/os"];
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
}
