//! What a shared cache stores under a key.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::{BlobDigest, DiffId, Sha256, StepKey};
use crate::oci::descriptor::{Descriptor, Layer};

/// A longer entry is not written, and not accepted.
pub(crate) const MAX_ENTRY: usize = 4096;

/// The format; another number is another format.
const VERSION: u32 = 1;

/// The name of an entry: what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EntryName {
    /// The image of a whole build.
    Root(StepKey),
    /// The layer of a step.
    Step(StepKey),
}

impl EntryName {
    /// `root` or `step`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Root(_) => "root",
            Self::Step(_) => "step",
        }
    }

    pub(super) fn key(&self) -> StepKey {
        match self {
            Self::Root(key) | Self::Step(key) => *key,
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind(), self.key().hex())
    }
}

impl FromStr for EntryName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, key) = text.split_once('-').ok_or("it has no kind")?;
        let key = StepKey(Sha256::from_hex(key).map_err(|e| e.to_string())?);
        match kind {
            "root" => Ok(Self::Root(key)),
            "step" => Ok(Self::Step(key)),
            _ => Err(format!("it is of an unknown kind {kind:?}")),
        }
    }
}

impl Serialize for EntryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One entry. It names no value of the build, not even by a digest that could be guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    version: u32,
    /// What it answers.
    pub(crate) name: EntryName,
    /// For a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<LayerEntry>,
    /// For a whole build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageEntry>,
    /// Room for a signature over the rest; none is made or checked yet.
    signature: Option<String>,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerEntry {
    /// The step's own key. An entry may have the name of another key that leads to the same result.
    pub(crate) key: StepKey,
    /// The layer, uncompressed.
    pub(crate) diff_id: DiffId,
    /// The layer as stored, by compression.
    pub(crate) blobs: BTreeMap<String, Descriptor>,
}

/// The result of a whole build: the layers over the base image. Config and manifest follow from them and the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageEntry {
    /// The manifest, for comparison.
    pub(crate) manifest: BlobDigest,
    /// The media type of all layers.
    media_type: String,
    layers: Vec<Short>,
}

/// A layer in few bytes: `<diff-id>.<digest>.<size>`, digests in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Short {
    diff_id: DiffId,
    blob: BlobDigest,
    size: u64,
}

impl Entry {
    /// The entry of a step.
    pub(crate) fn of_layer(name: StepKey, layer: LayerEntry) -> Self {
        let name = EntryName::Step(name);
        Self { version: VERSION, name, layer: Some(layer), image: None, signature: None }
    }

    /// The entry of a build. `None`: the image has too many layers, or layers of several media types.
    pub(crate) fn of_image(name: StepKey, manifest: BlobDigest, layers: &[Layer]) -> Option<Self> {
        let media_type = layers.first().map(|layer| layer.blob.media_type.clone()).unwrap_or_default();
        let same = layers.iter().all(|layer| layer.blob.media_type == media_type);
        let short = |layer: &Layer| Short { diff_id: layer.diff_id, blob: layer.blob.digest, size: layer.blob.size };
        let image = ImageEntry { manifest, media_type, layers: layers.iter().map(short).collect() };
        let name = EntryName::Root(name);
        let entry = Self { version: VERSION, name, layer: None, image: Some(image), signature: None };
        (same && entry.to_bytes().len() <= MAX_ENTRY).then_some(entry)
    }

    /// The blobs that it leads to.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        let of_step = self.layer.iter().flat_map(|layer| layer.blobs.values().cloned());
        let of_image = self.image.iter().flat_map(ImageEntry::layers).map(|layer| layer.blob);
        of_step.chain(of_image).collect()
    }

    /// The bytes to store.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry has only string keys")
    }

    /// Reads what a cache has stored under `name`. Err: why that is no answer.
    pub(super) fn parse(name: &EntryName, bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_ENTRY {
            return Err(format!("it has {} bytes, more than {MAX_ENTRY}", bytes.len()));
        }
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let version = serde_json::from_slice::<Versioned>(bytes).map_err(|e| e.to_string())?.version;
        if version != VERSION {
            return Err(format!("it has format {version}, and this kiln reads format {VERSION}"));
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let whole = match name {
            EntryName::Root(_) => entry.image.is_some(),
            EntryName::Step(_) => entry.layer.as_ref().is_some_and(|layer| !layer.blobs.is_empty()),
        };
        match (entry.name == *name, whole) {
            (true, true) => Ok(entry),
            (false, _) => Err(format!("it answers {}", entry.name)),
            (true, false) => Err("it leads to nothing".to_owned()),
        }
    }
}

impl ImageEntry {
    /// The layers over the base image, bottom first.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let layer = |short: &Short| Layer {
            diff_id: short.diff_id,
            blob: Descriptor::new(&self.media_type, short.blob, short.size),
        };
        self.layers.iter().map(layer).collect()
    }
}

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |digest: &Sha256| URL_SAFE_NO_PAD.encode(digest.0);
        serializer.collect_str(&format_args!("{}.{}.{}", text(&self.diff_id.0), text(&self.blob.0), self.size))
    }
}

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = |text: &str| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Sha256);
        let short = || {
            let mut fields = text.split('.');
            let (diff_id, blob) = (DiffId(digest(fields.next()?)?), BlobDigest(digest(fields.next()?)?));
            let size = fields.next()?.parse().ok()?;
            fields.next().is_none().then_some(Short { diff_id, blob, size })
        };
        short().ok_or_else(|| serde::de::Error::custom("a layer is malformed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::descriptor::LAYER_GZIP;

    fn layer(text: &str) -> Layer {
        let blob = Descriptor::of(LAYER_GZIP, text.as_bytes());
        Layer { diff_id: DiffId(Sha256::of(format!("{text} plain").as_bytes())), blob }
    }

    fn step(key: StepKey, name: StepKey) -> Entry {
        let Layer { diff_id, blob } = layer("one");
        Entry::of_layer(name, LayerEntry { key, diff_id, blobs: BTreeMap::from([("gzip".to_owned(), blob)]) })
    }

    #[test]
    fn entries_are_read_as_written() {
        let (key, other) = (StepKey(Sha256::of(b"key")), StepKey(Sha256::of(b"other")));
        let layers: Vec<Layer> = ["one", "two"].map(layer).to_vec();
        let image = Entry::of_image(key, BlobDigest(Sha256::of(b"m")), &layers).expect("it is short");
        for entry in [step(key, key), step(key, other), image.clone()] {
            assert_eq!(Entry::parse(&entry.name, &entry.to_bytes()), Ok(entry));
        }
        assert_eq!(image.image.as_ref().map(ImageEntry::layers), Some(layers.clone()));
        assert_eq!(image.blobs().len(), 2);
        assert!(Entry::of_image(key, BlobDigest(Sha256::of(b"m")), &[]).is_some());
    }

    #[test]
    fn image_of_thirty_layers_fits_one_of_a_hundred_does_not() {
        let layers = |count: usize| (0..count).map(|n| layer(&n.to_string())).collect::<Vec<_>>();
        let entry = |count| Entry::of_image(StepKey(Sha256::of(b"k")), BlobDigest(Sha256::of(b"m")), &layers(count));
        assert!(entry(30).is_some_and(|entry| entry.to_bytes().len() <= MAX_ENTRY));
        assert!(entry(100).is_none());
        let mut mixed = layers(2);
        mixed[1].blob.media_type = "application/vnd.oci.image.layer.v1.tar+zstd".to_owned();
        assert!(Entry::of_image(StepKey(Sha256::of(b"k")), BlobDigest(Sha256::of(b"m")), &mixed).is_none());
    }

    #[test]
    fn answer_to_something_else_is_refused() {
        let (key, other) = (StepKey(Sha256::of(b"key")), StepKey(Sha256::of(b"other")));
        let bytes = step(key, key).to_bytes();
        let (step, root) = (EntryName::Step(key), EntryName::Root(key));
        let newer = String::from_utf8_lossy(&bytes).replace("\"version\":1", "\"version\":2").into_bytes();
        let empty = String::from_utf8_lossy(&bytes).replace("\"layer\":", "\"other\":").into_bytes();
        for (name, bytes, why) in [
            (EntryName::Step(other), bytes.clone(), format!("it answers {step}")),
            (root, bytes.clone(), format!("it answers {step}")),
            (step, newer, "it has format 2, and this kiln reads format 1".to_owned()),
            (step, empty, "it leads to nothing".to_owned()),
            (step, b"<html>".to_vec(), "expected value at line 1 column 1".to_owned()),
            (step, vec![b' '; MAX_ENTRY + 1], format!("it has {} bytes, more than {MAX_ENTRY}", MAX_ENTRY + 1)),
        ] {
            assert_eq!(Entry::parse(&name, &bytes), Err(why));
        }
        for at in 0..bytes.len() {
            assert!(Entry::parse(&step, &bytes[..at]).is_err());
        }
    }
}
