//! Finding an image by what a person typed, and reading it.

use std::collections::BTreeSet;
use std::io::Read;

use crate::base::digest::BlobDigest;
use crate::oci::blob::BlobSource;
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::{CONFIG, DOCKER_CONFIG, Descriptor, MANIFEST};
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::blobs::blob_error;
use super::{Entry, Error, Store};

/// Fewer digits of a digest are not taken for an id.
const MIN_ID: usize = 4;
/// An index may point at an index, but not for ever (S-55).
const MAX_INDEX_DEPTH: usize = 4;

/// What a name or id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name it was found by, if it was a name.
    pub name: Option<Reference>,
    /// Its manifest or index.
    pub target: Descriptor,
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
    pub fn read(source: &dyn BlobSource, target: &Descriptor, platform: &Platform) -> Result<Self, Error> {
        let mut target = target.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            if !target.is_index() {
                return Self::read_manifest(source, target);
            }
            let bytes = read_document(source, &target)?;
            let index = Index::parse(&bytes).map_err(|source| Error::Document { digest: target.digest, source })?;
            let Some(next) = index.select(platform).or_else(|| only(&index)) else {
                let have = index.manifests.iter().filter_map(|m| m.platform.as_ref().map(ToString::to_string));
                return Err(Error::NoPlatform {
                    name: target.digest.to_string(),
                    want: platform.to_string(),
                    have: have.collect(),
                });
            };
            target = next.clone();
        }
        Err(Error::NotAnImage { digest: target.digest, why: "indexes are nested too deep".to_owned() })
    }

    fn read_manifest(source: &dyn BlobSource, descriptor: Descriptor) -> Result<Self, Error> {
        let digest = descriptor.digest;
        if !descriptor.is_manifest() {
            let why = format!("its media type is {}", descriptor.media_type);
            return Err(Error::NotAnImage { digest, why });
        }
        let bytes = read_document(source, &descriptor)?;
        let manifest = Manifest::parse(&bytes).map_err(|source| Error::Document { digest, source })?;
        let kind = manifest.config.media_type.as_str();
        if !matches!(kind, CONFIG | DOCKER_CONFIG) {
            let why = format!("it is an artifact: its config has media type {kind}");
            return Err(Error::NotAnImage { digest, why });
        }
        let bytes = read_document(source, &manifest.config)?;
        let config =
            ImageConfig::parse(&bytes).map_err(|source| Error::Document { digest: manifest.config.digest, source })?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let (has, says) = (manifest.layers.len(), config.rootfs.diff_ids.len());
            let why = format!("its manifest has {has} layers, its config speaks of {says}");
            return Err(Error::NotAnImage { digest, why });
        }
        Ok(Self { descriptor, manifest, config })
    }

    /// Bytes of all layers as stored, equal ones counted once.
    pub fn size(&self) -> u64 {
        let unique: BTreeSet<_> = self.manifest.layers.iter().map(|l| (l.digest, l.size)).collect();
        unique.iter().map(|(_, size)| size).sum()
    }
}

impl Store {
    /// Finds an image by name (`app`, `app:1`, `app@sha256:…`), digest, or the unambiguous beginning of one.
    /// Names win over ids.
    pub fn find(&self, text: &str) -> Result<Found, Error> {
        let entries = self.entries()?;
        let name: Option<Reference> = text.parse().ok();
        if let Some(name) = &name
            && let Some(found) = by_name(&entries, name)
        {
            return Ok(found);
        }
        let id = text.strip_prefix("sha256:").unwrap_or(text);
        if id.len() >= MIN_ID && id.len() <= 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            if let Some(target) = self.by_id(&entries, id)? {
                return Ok(Found { name: None, target });
            }
        } else if name.is_none() {
            // Not a name and not an id: say what is wrong with it as a name.
            if let Err(e) = text.parse::<Reference>() {
                return Err(Error::InvalidName(e));
            }
        }
        Err(Error::NoSuchImage { name: text.to_owned(), similar: similar(&entries, text) })
    }

    /// Finds an image and reads what `platform` runs of it.
    pub fn image(&self, text: &str, platform: &Platform) -> Result<(Found, Image), Error> {
        let found = self.find(text)?;
        let image = Image::read(self, &found.target, platform)?;
        Ok((found, image))
    }

    /// An image by the digest of its manifest (listed or not), or the beginning of a listed manifest's or config's.
    fn by_id(&self, entries: &[Entry], id: &str) -> Result<Option<Descriptor>, Error> {
        let mut found: Vec<Descriptor> = Vec::new();
        for entry in entries {
            if entry.target.digest.hex().starts_with(id) && !found.iter().any(|f| f.digest == entry.target.digest) {
                found.push(entry.target.clone());
            }
        }
        if found.is_empty() {
            for entry in entries {
                // An image that cannot be read cannot be found by its config either.
                if let Ok(image) = Image::read(self, &entry.target, &Platform::host())
                    && image.manifest.config.digest.hex().starts_with(id)
                    && !found.iter().any(|f| f.digest == entry.target.digest)
                {
                    found.push(entry.target.clone());
                }
            }
        }
        match found.as_slice() {
            [] => self.unlisted(id),
            [one] => Ok(Some(one.clone())),
            many => {
                let candidates = many.iter().map(|d| d.digest.hex()[..12].to_owned()).collect();
                Err(Error::Ambiguous { id: id.to_owned(), candidates })
            }
        }
    }

    /// A manifest that is stored but in no entry, by its whole digest: a parent, or one platform of an index.
    fn unlisted(&self, id: &str) -> Result<Option<Descriptor>, Error> {
        let Ok(digest) = format!("sha256:{id}").parse::<BlobDigest>() else { return Ok(None) };
        let Some(size) = self.blob_size(digest)? else { return Ok(None) };
        let blob = Descriptor::new(MANIFEST, digest, size);
        if size > MAX_DOCUMENT {
            return Ok(None);
        }
        let bytes = self.get(&blob)?;
        Ok(Manifest::parse(&bytes).ok().map(|_| blob))
    }
}

/// Reads a manifest, index or config, refusing oversized ones unread (S-53).
pub(super) fn read_document(source: &dyn BlobSource, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    if blob.size > MAX_DOCUMENT {
        let why = format!("{} of {} bytes, more than {MAX_DOCUMENT}", blob.media_type, blob.size);
        return Err(Error::NotAnImage { digest: blob.digest, why });
    }
    let mut bytes = Vec::new();
    source.open(blob)?.read_to_end(&mut bytes).map_err(|e| blob_error("read", blob.digest, &e))?;
    Ok(bytes)
}

/// An index with a single manifest that names no platform needs no choice.
fn only(index: &Index) -> Option<&Descriptor> {
    match index.manifests.as_slice() {
        [one] if one.platform.is_none() => Some(one),
        _ => None,
    }
}

fn by_name(entries: &[Entry], name: &Reference) -> Option<Found> {
    let entry = entries.iter().find(|e| match (&e.name, &name.digest) {
        (Some(n), None) => n == name,
        (Some(n), Some(digest)) => e.target.digest == *digest && n.name() == name.name(),
        (None, _) => false,
    })?;
    Some(Found { name: entry.name.clone(), target: entry.target.clone() })
}

/// A name that differs from `text` in its tag, or in at most two letters.
fn similar(entries: &[Entry], text: &str) -> Option<String> {
    let wanted: Reference = text.parse().ok()?;
    let names = || entries.iter().filter_map(|e| e.name.as_ref());
    let same_repository = names().find(|n| n.name() == wanted.name());
    let close = || names().filter(|n| distance(&n.familiar(), &wanted.familiar()) <= 2).min();
    same_repository.or_else(close).map(Reference::familiar)
}

/// Edits that turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != *cb)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}
