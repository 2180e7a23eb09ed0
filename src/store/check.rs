//! Verification of what the store keeps itself: blobs, images, names, cache mounts and the files at its top.
//!
//! **Holds.** Checking changes nothing, marks nothing as used and takes no lock: builds and pruning go on. What a file was
//! when it was read may have changed by the time of the repair, so only the very file that was damaged is removed
//! ([`crate::base::damage::Damage::is_there`]).
//! **Order.** Names are read before blobs: what a name needs was stored before the name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;

use rayon::prelude::*;

use crate::base::cancel::Cancel;
use crate::base::damage::Checked;
use crate::base::digest::{BlobDigest, DiffId, Hasher};
use crate::base::fs::{self, FsError};
use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::oci::manifest::{Index, Manifest};
use crate::oci::reference::Reference;

use super::directory::Store;
use super::{Entry, Error, Sources};

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// What a stored image lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// The manifest or index of the image.
    pub target: Descriptor,
    /// The image's names; none: it is an unnamed one.
    pub names: Vec<Reference>,
    /// What is missing or damaged, and why it cannot be used.
    pub blobs: Vec<(Descriptor, Part, Unusable)>,
}

/// A part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// An index or a manifest.
    Manifest,
    /// A config.
    Config,
    /// A layer.
    Layer,
}

/// Why a blob cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is not stored.
    Missing,
    /// Its bytes have another digest.
    Damaged,
    /// It is stored with this size, which is not the one that the image says.
    Size(u64),
    /// It is not what the image says it is.
    Invalid(String),
}

/// Images as a check found them.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// Those that lack something.
    pub lacking: Vec<Lacking>,
    /// A whole blob for every layer of an image.
    pub layers: BTreeMap<DiffId, Layer>,
}

impl Store {
    /// Reads every blob. Returns also those whose bytes do not hash to their name.
    pub(crate) fn check_blobs(&self, stop: &Cancel) -> Result<(Checked, BTreeSet<BlobDigest>), Error> {
        let dir = self.root().join("blobs/sha256");
        let names = fs::list(&dir)?;
        let read = names.par_iter().map(|name| -> Result<_, FsError> {
            let path = dir.join(name);
            let Some(digest) = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<BlobDigest>().ok()) else {
                let stray = || Checked::file(&path, 0, Some("not named like a blob".to_owned()));
                return Ok((Checked::draft(&path).unwrap_or_else(stray), None));
            };
            let (size, why) = match hash(&path, stop) {
                Ok((found, size)) if found == digest => (size, None),
                Ok((found, size)) => (size, Some(format!("it has the digest {found}"))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Checked::default(), None)),
                Err(e) if stop.is_cancelled() => return Err(FsError::new("read", &path, e)),
                Err(e) => (0, Some(e.to_string())),
            };
            let bad = why.is_some().then_some(digest);
            Ok((Checked::file(&path, size, why), bad))
        });
        let all = read.collect::<Result<Vec<_>, _>>()?;
        let bad = all.iter().filter_map(|(_, bad)| *bad).collect();
        Ok((all.into_iter().map(|(checked, _)| checked).collect(), bad))
    }

    /// Follows every image of `index.json` to its layers. The blobs `bad` are damaged.
    pub(crate) fn check_images(&self, bad: &BTreeSet<BlobDigest>) -> Result<Images, Error> {
        let mut targets: BTreeMap<BlobDigest, (Descriptor, Vec<Reference>)> = BTreeMap::new();
        for Entry { name, target } in self.entries()? {
            targets.entry(target.digest).or_insert_with(|| (target, Vec::new())).1.extend(name);
        }
        let mut images = Images::default();
        for (target, names) in targets.into_values() {
            let blobs = self.lacking(&target, bad, &mut images.layers);
            if !blobs.is_empty() {
                images.lacking.push(Lacking { target, names, blobs });
            }
        }
        Ok(images)
    }

    /// What an image lacks. Adds its whole layers to `layers`.
    pub(super) fn lacking(
        &self,
        target: &Descriptor,
        bad: &BTreeSet<BlobDigest>,
        layers: &mut BTreeMap<DiffId, Layer>,
    ) -> Vec<(Descriptor, Part, Unusable)> {
        let sources = Sources::of(target);
        let mut lacking = Vec::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![target.clone()];
        while let Some(document) = todo.pop() {
            if !seen.insert(document.digest) {
                continue;
            }
            let bytes = match self.read_part(&document, bad) {
                Ok(bytes) => bytes,
                Err(why) => {
                    lacking.push((document, Part::Manifest, why));
                    continue;
                }
            };
            if document.is_index() {
                match Index::parse(&bytes) {
                    Ok(index) => todo.extend(self.listed(index, bad)),
                    Err(e) => lacking.push((document, Part::Manifest, Unusable::Invalid(e.to_string()))),
                }
                continue;
            }
            let manifest = match Manifest::parse(&bytes) {
                Ok(manifest) if document.is_manifest() => manifest,
                Ok(_) => {
                    let why = format!("its media type is {}", document.media_type);
                    lacking.push((document, Part::Manifest, Unusable::Invalid(why)));
                    continue;
                }
                Err(e) => {
                    lacking.push((document, Part::Manifest, Unusable::Invalid(e.to_string())));
                    continue;
                }
            };
            // A registry may have the layers of an image that is only listed here.
            let elsewhere = sources.name_of(document.digest).is_some();
            self.lacking_of_one(&manifest, elsewhere, bad, &mut lacking, layers);
        }
        lacking
    }

    /// The manifests of an index that must be stored: an archive or a registry may have given only some platforms.
    fn listed(&self, index: Index, bad: &BTreeSet<BlobDigest>) -> Vec<Descriptor> {
        let missing = |blob: &Descriptor| self.fault_of(blob, bad) == Some(Unusable::Missing);
        let all = index.manifests;
        if all.iter().all(missing) { all } else { all.into_iter().filter(|blob| !missing(blob)).collect() }
    }

    fn lacking_of_one(
        &self,
        manifest: &Manifest,
        elsewhere: bool,
        bad: &BTreeSet<BlobDigest>,
        lacking: &mut Vec<(Descriptor, Part, Unusable)>,
        layers: &mut BTreeMap<DiffId, Layer>,
    ) {
        let config = match self.read_part(&manifest.config, bad) {
            Ok(bytes) => ImageConfig::parse(&bytes).ok(),
            Err(why) => {
                lacking.push((manifest.config.clone(), Part::Config, why));
                None
            }
        };
        let diff_ids = config.map(|config| config.rootfs.diff_ids).unwrap_or_default();
        for (at, blob) in manifest.layers.iter().enumerate() {
            match self.fault_of(blob, bad) {
                None => {
                    if let Some(diff_id) = diff_ids.get(at) {
                        layers.insert(*diff_id, Layer { diff_id: *diff_id, blob: blob.clone() });
                    }
                }
                Some(Unusable::Missing) if elsewhere || !blob.urls.is_empty() => {}
                Some(why) if lacking.iter().any(|(known, _, _)| known.digest == blob.digest) => drop(why),
                Some(why) => lacking.push((blob.clone(), Part::Layer, why)),
            }
        }
    }

    /// Why a blob cannot be used; `None`: it can.
    pub(crate) fn fault_of(&self, blob: &Descriptor, bad: &BTreeSet<BlobDigest>) -> Option<Unusable> {
        match self.blob_size(blob.digest) {
            _ if bad.contains(&blob.digest) => Some(Unusable::Damaged),
            Ok(Some(size)) if size == blob.size => None,
            Ok(Some(size)) => Some(Unusable::Size(size)),
            Ok(None) => Some(Unusable::Missing),
            Err(e) => Some(Unusable::Invalid(e.to_string())),
        }
    }

    fn read_part(&self, blob: &Descriptor, bad: &BTreeSet<BlobDigest>) -> Result<Vec<u8>, Unusable> {
        if let Some(why) = self.fault_of(blob, bad) {
            return Err(why);
        }
        let mut bytes = Vec::new();
        let read = self.blob_file(blob.digest).map_err(|e| e.to_string());
        let read = read.and_then(|file| file.take(blob.size).read_to_end(&mut bytes).map_err(|e| e.to_string()));
        read.map(|_| bytes).map_err(Unusable::Invalid)
    }

    /// Checks that each cache mount is named by its id. Its files are whatever commands wrote.
    pub(crate) fn check_mounts(&self) -> Result<Checked, Error> {
        let mut checked = Checked::default();
        for name in fs::list(&self.mounts_dir())? {
            let dir = self.mounts_dir().join(&name);
            for number in fs::list(&dir)? {
                let id = dir.join(number).join("id");
                let wrong = |id: &[u8]| super::mount_name(&String::from_utf8_lossy(id)) != name.to_string_lossy();
                checked = checked.and(Checked::read(&id, |content| {
                    wrong(&content).then(|| "its directory is named by another id".to_owned())
                }));
            }
        }
        Ok(checked)
    }
}

fn hash(path: &Path, stop: &Cancel) -> io::Result<(BlobDigest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut size, mut piece) = (Hasher::new(), 0, vec![0; PIECE]);
    loop {
        stop.check()?;
        match file.read(&mut piece)? {
            0 => return Ok((BlobDigest(hasher.finish()), size)),
            n => {
                hasher.update(&piece[..n]);
                size += n as u64;
            }
        }
    }
}

/// The blobs of a store, for who changes nothing: nothing is marked as used, and a damaged blob stays.
#[derive(Debug)]
pub(crate) struct ReadOnly<'a>(pub(crate) &'a Store);

impl BlobSource for ReadOnly<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        self.0.open_untouched(blob)
    }
}
