//! Finding images by name or id.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use crate::base::digest::BlobDigest;
use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::{Descriptor, INDEX, MANIFEST};
use crate::oci::image::{Image, manifests};
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::directory::Store;
use super::{Entry, Error, Sources};

/// How many repositories a push asks for a blob before it sends it: each that declines opens an upload.
const MOUNTS: usize = 3;

/// How many images are looked at for blobs to mount. The builds that a push follows have used its base images.
const LOOKED_AT: usize = 256;

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

    /// The blobs of the images that have names on the registry of `name`, each with some of the repositories that have it,
    /// other than that of `name`: those where an image of a list was found, then those of the images with the fewest layers,
    /// which are base images. Images that cannot be read are left out, and of very many those that were not used for longest.
    /// `target` is what is pushed, which need not have a name.
    pub(crate) fn holders(
        &self,
        name: &Reference,
        target: Option<&Descriptor>,
    ) -> Result<BTreeMap<BlobDigest, Vec<String>>, Error> {
        let elsewhere = |other: &Reference| other.registry == name.registry && other.repository != name.repository;
        // Many names may stand for one image, which is read once.
        let mut images: BTreeMap<BlobDigest, (Descriptor, BTreeSet<String>)> = BTreeMap::new();
        let own = target.map(|target| Entry { name: None, target: target.clone() });
        for Entry { name, target } in self.entries_mentioning(&name.registry)?.into_iter().chain(own) {
            let name = name.filter(elsewhere);
            if name.is_some() || Sources::of(&target).iter().any(|(_, source)| elsewhere(source)) {
                let (_, repositories) = images.entry(target.digest).or_insert_with(|| (target, BTreeSet::new()));
                if repositories.len() < MOUNTS {
                    repositories.extend(name.map(|name| name.repository));
                }
            }
        }
        let mut images: Vec<_> = images.into_values().collect();
        if images.len() > LOOKED_AT {
            images.sort_by_cached_key(|(target, _)| {
                let used = std::fs::symlink_metadata(self.blob_path(target.digest)).map(|meta| meta.mtime()).ok();
                (Sources::of(target) == Sources::default(), Reverse(used))
            });
            images.truncate(LOOKED_AT);
        }
        let mut ranked: BTreeMap<BlobDigest, BTreeSet<(usize, String)>> = BTreeMap::new();
        for (target, repositories) in images {
            let sources = Sources::of(&target);
            let found = manifests(&Unmarked(self), &target).unwrap_or_default();
            let listed: BTreeSet<BlobDigest> = found.iter().map(|(descriptor, _)| descriptor.digest).collect();
            for (descriptor, manifest) in found {
                let source = sources.names_for(descriptor.digest, &listed).filter(|source| elsewhere(source));
                let source = source.map(|source| (0, source.repository.clone()));
                let named = repositories.iter().map(|repository| (1 + manifest.layers.len(), repository.clone()));
                let ranks: Vec<(usize, String)> = source.chain(named).collect();
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    let best = ranked.entry(blob.digest).or_default();
                    best.extend(ranks.iter().cloned());
                    while best.len() > MOUNTS {
                        best.pop_last();
                    }
                }
            }
        }
        let repositories = |best: BTreeSet<(usize, String)>| {
            let mut all = Vec::new();
            for (_, repository) in best {
                if !all.contains(&repository) {
                    all.push(repository);
                }
            }
            all
        };
        Ok(ranked.into_iter().map(|(blob, best)| (blob, repositories(best))).collect())
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

/// The store for who only looks: nothing is marked as used.
struct Unmarked<'a>(&'a Store);

impl BlobSource for Unmarked<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        self.0.open_stored(blob, self.0.blob_path(blob.digest))
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
