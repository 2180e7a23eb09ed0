//! Finding images by name or id.

use std::collections::BTreeMap;

use crate::base::digest::BlobDigest;
use crate::oci::descriptor::{Descriptor, INDEX, MANIFEST};
use crate::oci::image::Image;
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::directory::Store;
use super::{Entry, Error};

/// The shortest id, in hexadecimal digits.
const MIN_ID: usize = 4;

/// The image that a name or id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundImage {
    /// The name by which it was found; `None`: it was found by its id.
    pub name: Option<Reference>,
    /// Its manifest or index.
    pub target: Descriptor,
}

impl Store {
    /// Finds an image by name (`app`, `app:1`, `app@sha256:…`), digest, or the unambiguous beginning of one.
    /// Names win over ids.
    pub(crate) fn find(&self, text: &str) -> Result<FoundImage, Error> {
        let name: Option<Reference> = text.parse().ok();
        if let Some(name) = &name
            && let Some(Entry { name, target }) = self.entry_named(name)?
        {
            return Ok(FoundImage { name, target });
        }
        // A digest says what the image is, whatever repository it came from.
        if let Some(digest) = name.as_ref().and_then(|name| name.digest)
            && let Some(target) = self.document(digest)?
        {
            return Ok(FoundImage { name: None, target });
        }
        let entries = self.entries()?;
        let id = text.strip_prefix("sha256:").unwrap_or(text);
        if id.len() >= MIN_ID && id.len() <= 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            if let Some(target) = self.by_id(&entries, id)? {
                return Ok(FoundImage { name: None, target });
            }
        } else if name.is_none() {
            // Neither a name nor an id: report why it is not a name.
            if let Err(e) = text.parse::<Reference>() {
                return Err(Error::InvalidName(e));
            }
        }
        Err(Error::NoSuchImage { name: text.to_owned(), similar: similar(&entries, text) })
    }

    /// Finds an image, and reads its manifest and config for `platform`.
    pub(crate) fn image(&self, text: &str, platform: &Platform) -> Result<(FoundImage, Image), Error> {
        let found = self.find(text)?;
        let image = Image::read(self, &found.target, platform)?;
        Ok((found, image))
    }

    /// The layers of the images that have names on the registry of `name`, each with the repositories that have it, other
    /// than that of `name`. Images that cannot be read are left out.
    pub(crate) fn holders(&self, name: &Reference) -> Result<BTreeMap<BlobDigest, Vec<String>>, Error> {
        let mut holders: BTreeMap<BlobDigest, Vec<String>> = BTreeMap::new();
        for entry in self.entries()? {
            let Some(other) = entry.name.filter(|other| other.registry == name.registry) else { continue };
            if other.repository == name.repository {
                continue;
            }
            let Ok(image) = Image::read(self, &entry.target, &Platform::host()) else { continue };
            for layer in image.manifest.layers {
                let repositories = holders.entry(layer.digest).or_default();
                if !repositories.contains(&other.repository) {
                    repositories.push(other.repository.clone());
                }
            }
        }
        Ok(holders)
    }

    /// An image by the digest of its manifest (listed or not), or by the beginning of a listed manifest's or config's digest.
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
            [] => match format!("sha256:{id}").parse() {
                Ok(digest) => self.document(digest),
                Err(_) => Ok(None),
            },
            [one] => Ok(Some(one.clone())),
            many => {
                let candidates = many.iter().map(|d| d.digest.hex()[..12].to_owned()).collect();
                Err(Error::Ambiguous { id: id.to_owned(), candidates })
            }
        }
    }

    /// A manifest or index that is stored, listed or not: a pinned base, a parent, one platform of an index.
    pub(crate) fn document(&self, digest: BlobDigest) -> Result<Option<Descriptor>, Error> {
        let Some(size) = self.blob_size(digest)?.filter(|size| *size <= MAX_DOCUMENT) else { return Ok(None) };
        let bytes = self.get(&Descriptor::new(MANIFEST, digest, size))?;
        let media_type = match (Manifest::parse(&bytes), Index::parse(&bytes)) {
            (Ok(manifest), _) => manifest.media_type.unwrap_or_else(|| MANIFEST.to_owned()),
            (_, Ok(index)) => index.media_type.unwrap_or_else(|| INDEX.to_owned()),
            _ => return Ok(None),
        };
        Ok(Some(Descriptor::new(&media_type, digest, size)))
    }
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
