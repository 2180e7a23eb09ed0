//! What a shared cache stores under a key.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::{BlobDigest, DiffId, Sha256, StepKey};
use crate::cache::Made;
use crate::oci::descriptor::{Descriptor, Layer};

use super::parts::{Parts, Stored, from_short, short};

/// A longer entry is not written, and not accepted.
pub(crate) const MAX_ENTRY: usize = 4096;

/// The format; another number is another format.
const VERSION: u32 = 1;

/// The format of entries that say how a layer is put together, which an earlier kiln would take for one that is stored.
const IN_PARTS: u32 = 2;

/// The name of an entry: what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EntryName {
    /// The image of a whole build.
    Root(StepKey),
    /// The layer of a step.
    Step(StepKey),
    /// The layer that was made last in some place of a Dockerfile.
    Slot(StepKey),
    /// The files of a cache mount.
    Mount(StepKey),
}

impl EntryName {
    /// `root`, `step`, `slot` or `mount`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Root(_) => "root",
            Self::Step(_) => "step",
            Self::Slot(_) => "slot",
            Self::Mount(_) => "mount",
        }
    }

    pub(super) fn key(&self) -> StepKey {
        match self {
            Self::Root(key) | Self::Step(key) | Self::Slot(key) | Self::Mount(key) => *key,
        }
    }

    /// Whether an entry of this name replaces the one before. What it leads to is no result of a key.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Self::Slot(_) | Self::Mount(_))
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
            "slot" => Ok(Self::Slot(key)),
            "mount" => Ok(Self::Mount(key)),
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
    /// For an entry that is replaced: the segments of the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) segments: Option<Stored>,
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
    /// The layer's blob, by compression.
    pub(crate) blobs: BTreeMap<String, Descriptor>,
    /// What the blob, of which there is one, is put together from. `None`: blobs are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<Parts>,
    /// How it was made.
    #[serde(default, skip_serializing_if = "Made::is_unknown")]
    pub(crate) made: Made,
}

/// How a cache has a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Whole,
    /// In parts, as the entry with this name says, too.
    Parts(EntryName, Arc<Parts>),
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

/// A layer in few bytes: `<diff-id>.<digest>.<size>`, digests in base64. If the blob is in parts, `.<key>` follows, the key of
/// the step whose entry has them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Short {
    diff_id: DiffId,
    blob: Stored,
    step: Option<StepKey>,
}

impl Entry {
    fn new(name: EntryName, layer: Option<LayerEntry>, image: Option<ImageEntry>) -> Self {
        let (version, segments, signature) = (VERSION, None, None);
        Self { version, name, layer, image, segments, signature }.with_version()
    }

    /// The entry of a step.
    pub(crate) fn of_layer(name: StepKey, layer: LayerEntry) -> Self {
        Self::new(EntryName::Step(name), Some(layer), None)
    }

    /// The entry of a cache mount.
    pub(crate) fn of_mount(name: StepKey, layer: LayerEntry) -> Self {
        Self::new(EntryName::Mount(name), Some(layer), None)
    }

    /// The entry `name`, which replaces the one before, for the same layer.
    pub(super) fn latest(&self, name: EntryName, segments: Stored) -> Self {
        Self { name, segments: Some(segments), ..self.clone() }.with_version()
    }

    /// The entry of a build. `None`: the image has too many layers, or layers of several media types.
    pub(crate) fn of_image(name: StepKey, manifest: BlobDigest, layers: &[Layer]) -> Option<Self> {
        let media_type = layers.first().map(|layer| layer.blob.media_type.clone()).unwrap_or_default();
        let same = layers.iter().all(|layer| layer.blob.media_type == media_type);
        let short = |layer: &Layer| Short { diff_id: layer.diff_id, blob: Stored::of(&layer.blob), step: None };
        let image = ImageEntry { manifest, media_type, layers: layers.iter().map(short).collect() };
        let entry = Self::new(EntryName::Root(name), None, Some(image));
        (same && entry.fits()).then_some(entry)
    }

    /// Says of a blob how the cache has it.
    pub(super) fn set_form(&mut self, blob: BlobDigest, form: &Form) {
        let Form::Parts(by, parts) = form else { return };
        if let Some(layer) = &mut self.layer {
            layer.parts = Some(Parts::clone(parts));
        }
        let layers = self.image.iter_mut().flat_map(|image| &mut image.layers);
        for layer in layers.filter(|layer| layer.blob.digest == blob) {
            layer.step = Some(by.key());
        }
        *self = self.clone().with_version();
    }

    fn with_version(self) -> Self {
        let by_step = self.image.iter().flat_map(|image| &image.layers).any(|layer| layer.step.is_some());
        let in_parts = self.layer.as_ref().is_some_and(|layer| layer.parts.is_some());
        let version = if by_step || in_parts || self.segments.is_some() { IN_PARTS } else { VERSION };
        Self { version, ..self }
    }

    /// Whether it is short enough.
    pub(super) fn fits(&self) -> bool {
        self.to_bytes().len() <= MAX_ENTRY
    }

    /// What builds that upload its blobs claim: the same for all names of one step.
    pub(super) fn claimed(&self) -> EntryName {
        self.layer.as_ref().map_or(self.name, |layer| EntryName::Step(layer.key))
    }

    /// The blobs that it leads to.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        let of_step = self.layer.iter().flat_map(|layer| layer.blobs.values().cloned());
        let of_image = self.image.iter().flat_map(ImageEntry::layers).map(|layer| layer.blob);
        of_step.chain(of_image).collect()
    }

    /// The blobs that must be stored.
    pub(super) fn stored(&self) -> Vec<Descriptor> {
        let parts = self.layer.as_ref().and_then(|layer| layer.parts.as_ref());
        let sources = parts.into_iter().flat_map(Parts::sources).chain(&self.segments).map(Stored::descriptor);
        let of_step = self.layer.iter().filter(|layer| layer.parts.is_none()).flat_map(|layer| layer.blobs.values());
        let of_image = self.image.iter().flat_map(|image| {
            let whole = image.layers.iter().filter(|layer| layer.step.is_none());
            whole.map(|layer| Descriptor::new(&image.media_type, layer.blob.digest, layer.blob.size))
        });
        sources.chain(of_step.cloned()).chain(of_image).collect()
    }

    /// How the cache has the blobs of which it says so.
    pub(super) fn forms(&self) -> Vec<(BlobDigest, Form)> {
        let whole = self.stored().into_iter().map(|blob| (blob.digest, Form::Whole));
        let in_parts = self.layer.iter().filter_map(|layer| {
            let (blob, parts) = (layer.blobs.values().next()?, layer.parts.clone()?);
            Some((blob.digest, Form::Parts(self.name, Arc::new(parts))))
        });
        whole.chain(in_parts).collect()
    }

    /// The entries that say of its blobs how the cache has them.
    pub(super) fn refers_to(&self) -> Vec<EntryName> {
        let layers = self.image.iter().flat_map(|image| &image.layers);
        layers.filter_map(|layer| layer.step.map(EntryName::Step)).collect()
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
        if !(VERSION..=IN_PARTS).contains(&version) {
            return Err(format!("it has format {version}, and this kiln reads formats {VERSION} and {IN_PARTS}"));
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let whole = match name {
            EntryName::Root(_) => entry.image.is_some(),
            EntryName::Step(_) => entry.layer.as_ref().is_some_and(|layer| !layer.blobs.is_empty()),
            EntryName::Slot(_) | EntryName::Mount(_) => {
                entry.layer.as_ref().is_some_and(|layer| layer.blobs.len() == 1)
            }
        };
        if let Some(layer) = &entry.layer
            && let Some(parts) = &layer.parts
        {
            match layer.blobs.values().collect::<Vec<_>>()[..] {
                [blob] => parts.check(blob.size)?,
                _ => return Err("its parts are of several blobs".to_owned()),
            }
        }
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
            blob: Descriptor::new(&self.media_type, short.blob.digest, short.blob.size),
        };
        self.layers.iter().map(layer).collect()
    }
}

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { diff_id, blob, step } = self;
        let step = step.map(|key| format!(".{}", short(key.0))).unwrap_or_default();
        serializer.collect_str(&format_args!("{}.{}.{}{step}", short(diff_id.0), short(blob.digest.0), blob.size))
    }
}

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = || {
            let mut fields = text.split('.');
            let diff_id = DiffId(from_short(fields.next()?)?);
            let blob = Stored { digest: BlobDigest(from_short(fields.next()?)?), size: fields.next()?.parse().ok()? };
            let step = fields.next().map(|key| from_short(key).map(StepKey));
            let step = if let Some(step) = step { Some(step?) } else { None };
            fields.next().is_none().then_some(Short { diff_id, blob, step })
        };
        read().ok_or_else(|| serde::de::Error::custom("a layer is malformed"))
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
        let (blobs, made) = (BTreeMap::from([("gzip".to_owned(), blob)]), Made { at: None, below: Some(key) });
        Entry::of_layer(name, LayerEntry { key, diff_id, blobs, parts: None, made })
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
    fn layer_in_parts_needs_only_what_is_stored() {
        let (key, other) = (StepKey(Sha256::of(b"key")), StepKey(Sha256::of(b"other")));
        let (Layer { blob, .. }, source) = (layer("one"), layer("a longer source").blob);
        let mut parts = Parts::default();
        parts.push(Stored::of(&source), 1..1 + blob.size);
        let form = Form::Parts(EntryName::Step(key), Arc::new(parts));
        let mut entry = step(key, other);
        entry.set_form(blob.digest, &form);
        assert_eq!((entry.version, entry.blobs()), (IN_PARTS, vec![blob.clone()]));
        assert_eq!(entry.stored().iter().map(|blob| blob.digest).collect::<Vec<_>>(), [source.digest]);
        let read = Entry::parse(&entry.name, &entry.to_bytes()).expect("an entry");
        let forms: BTreeMap<BlobDigest, Form> = read.forms().into_iter().collect();
        assert_eq!(forms.get(&source.digest), Some(&Form::Whole));
        assert!(matches!(forms.get(&blob.digest), Some(Form::Parts(by, _)) if *by == EntryName::Step(other)));

        // The image names the step whose entry has the parts.
        let layers = ["one", "two"].map(layer);
        let mut image = Entry::of_image(key, BlobDigest(Sha256::of(b"m")), &layers).expect("it is short");
        image.set_form(blob.digest, &form);
        let image = Entry::parse(&image.name, &image.to_bytes()).expect("an entry");
        assert_eq!((image.version, image.refers_to()), (IN_PARTS, vec![EntryName::Step(key)]));
        assert_eq!(image.stored(), [layers[1].blob.clone()]);
        assert_eq!(image.image.as_ref().map(ImageEntry::layers), Some(layers.to_vec()));

        // What replaces another entry says what the layer consists of.
        let latest = entry.latest(EntryName::Slot(other), Stored::of(&source));
        assert!(latest.name.is_replaced());
        assert_eq!(Entry::parse(&latest.name, &latest.to_bytes()), Ok(latest));
        // Parts of another size.
        let mut wrong = entry.clone();
        wrong.layer.as_mut().expect("a layer").blobs.values_mut().for_each(|blob| blob.size += 1);
        assert_eq!(
            Entry::parse(&wrong.name, &wrong.to_bytes()),
            Err("its ranges are shorter than the layer".to_owned())
        );
    }

    #[test]
    fn answer_to_something_else_is_refused() {
        let (key, other) = (StepKey(Sha256::of(b"key")), StepKey(Sha256::of(b"other")));
        let bytes = step(key, key).to_bytes();
        let (step, root) = (EntryName::Step(key), EntryName::Root(key));
        let newer = String::from_utf8_lossy(&bytes).replace("\"version\":1", "\"version\":3").into_bytes();
        let empty = String::from_utf8_lossy(&bytes).replace("\"layer\":", "\"other\":").into_bytes();
        for (name, bytes, why) in [
            (EntryName::Step(other), bytes.clone(), format!("it answers {step}")),
            (root, bytes.clone(), format!("it answers {step}")),
            (step, newer, "it has format 3, and this kiln reads formats 1 and 2".to_owned()),
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
