//! What the store holds, its disk usage, and what needs it.
//!
//! **Holds.** Sizes are allocated blocks, as `du` counts them. An image that cannot be read in full still needs whatever of
//! it can be read: damage never makes pruning remove more of an image.
//! **Not here.** What a record says: the caller passes [`Step`]s. What is removed: `gc`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::digest::{BlobDigest, DiffId};
use crate::base::fs::{self, FsError};
use crate::base::lock::Exclusive;
use crate::base::time::Timestamp;
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::reference::Reference;

use super::directory::Store;
use super::mounts::MountInstance;
use super::usage::usage;
use super::{Entry, Error};

/// Prefix of the directories that have a layer's files: `fs2`, `fs2-user-…`, `fs2-plain`.
const FORMS: &[u8] = b"fs";

/// One cached step, as the cache describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The path of its record.
    pub record: PathBuf,
    /// The layer that it made.
    pub layer: DiffId,
    /// The layer's blobs, one for each compression.
    pub blobs: Vec<BlobDigest>,
    /// When it was made or last found.
    pub used: Timestamp,
}

/// An image of `index.json` with all its blobs and layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredImage {
    /// Empty: the image is unnamed.
    pub names: Vec<Reference>,
    /// Manifests, configs and layers that are stored.
    pub blobs: BTreeSet<BlobDigest>,
    /// Its layers.
    pub layers: BTreeSet<DiffId>,
    /// When its manifest was stored or last used.
    pub used: Timestamp,
}

/// A file or directory that only saves work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheFile {
    /// Where it is.
    pub path: PathBuf,
    /// Disk usage in bytes.
    pub bytes: u64,
    /// When it was made or last used.
    pub used: Timestamp,
}

/// The directory of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Where it is.
    pub path: PathBuf,
    /// The directories in it that have the layer's files, one for each form.
    pub forms: Vec<PathBuf>,
    /// Disk usage of the unpacked files, in bytes.
    pub files: u64,
    /// Disk usage of what is kept beside them, such as the layer's tree.
    pub beside: u64,
    /// When it was made or last used.
    pub used: Timestamp,
}

/// Everything in a store that takes space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Every stored blob with its disk usage.
    pub blobs: BTreeMap<BlobDigest, u64>,
    /// The images by the digest of their manifest or index.
    pub images: BTreeMap<BlobDigest, StoredImage>,
    /// The cached steps.
    pub steps: Vec<Step>,
    /// Records that cannot be read, also because they are still being written. After [`Store::refresh`]: those that nobody writes.
    pub unreadable: Vec<PathBuf>,
    /// Unpacked layers.
    pub unpacked: BTreeMap<DiffId, Unpacked>,
    /// Stat indexes of context directories, last keys of slots, downloads.
    pub cache_files: Vec<CacheFile>,
    /// Cache mounts.
    pub mounts: Vec<MountInstance>,
    /// The entries of `index.json` from which `images` was made.
    pub(super) listed: Vec<Entry>,
    /// What other processes use while something is removed.
    pub busy: InUse,
}

/// What was made or marked since the oldest lease began: it stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    /// Blobs.
    pub blobs: BTreeSet<BlobDigest>,
    /// Layers whose files or records are used.
    pub layers: BTreeSet<DiffId>,
    /// Indexes into [`Survey::cache_files`].
    pub cache_files: BTreeSet<usize>,
    /// Some process has a lease.
    pub anybody: bool,
}

impl Survey {
    /// Disk usage of everything, in bytes.
    pub(crate) fn total(&self) -> u64 {
        let unpacked = self.unpacked.values().map(|u| u.files + u.beside);
        let others = self.cache_files.iter().map(|n| n.bytes).chain(self.mounts.iter().map(|m| m.bytes));
        self.blobs.values().copied().chain(unpacked).chain(others).sum()
    }

    /// Disk usage of the blobs of named images, which are never removed.
    pub(crate) fn named(&self) -> u64 {
        let blobs: BTreeSet<&BlobDigest> =
            self.images.values().filter(|i| !i.names.is_empty()).flat_map(|i| &i.blobs).collect();
        blobs.into_iter().filter_map(|b| self.blobs.get(b)).sum()
    }
}

impl Store {
    /// Surveys the whole store. `steps` and `unreadable` are all records of the cache. Ok: the survey was true while it was made. It stays
    /// true while the caller holds [`Store::exclude`]; [`Store::refresh`] brings it up to date later.
    pub(crate) fn survey(&self, steps: Vec<Step>, unreadable: Vec<PathBuf>) -> Result<Survey, Error> {
        let mut survey = Survey { steps, unreadable, mounts: self.mount_instances()?, ..Survey::default() };
        let blobs = self.root().join("blobs/sha256");
        for name in fs::list(&blobs)? {
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() else { continue };
            if let Some(kept) = look(&blobs.join(name))? {
                survey.blobs.insert(digest, kept.bytes);
            }
        }
        self.look_at_images(&mut survey)?;
        for name in fs::list(&self.layers_dir())? {
            let path = self.layers_dir().join(&name);
            let Ok(layer) = format!("sha256:{}", name.to_string_lossy()).parse() else { continue };
            if let Some(kept) = look(&path)? {
                let names = fs::list(&path)?.into_iter().filter(|name| name.as_encoded_bytes().starts_with(FORMS));
                let forms: Vec<PathBuf> = names.map(|name| path.join(name)).collect();
                let files = forms.iter().map(|form| usage(form)).sum::<Result<u64, _>>()?;
                let beside = usage(&path)?.saturating_sub(files);
                let unpacked = Unpacked { path, forms, files, beside, used: kept.used };
                survey.unpacked.insert(layer, unpacked);
            }
        }
        for dir in [self.contexts_dir(), self.slots_dir(), self.fetched_dir()] {
            for name in fs::list(&dir)? {
                let path = dir.join(name);
                if let Some(kept) = look(&path)? {
                    survey.cache_files.push(CacheFile { bytes: usage(&path)?, ..kept });
                }
            }
        }
        Ok(survey)
    }

    fn look_at_images(&self, survey: &mut Survey) -> Result<(), Error> {
        survey.listed = self.entries()?;
        survey.images.clear();
        for entry in survey.listed.iter().cloned() {
            let image = survey.images.entry(entry.target.digest).or_default();
            image.names.extend(entry.name);
            if image.blobs.is_empty() {
                let kept = look(&self.blob_path(entry.target.digest))?;
                image.used = kept.map(|kept| kept.used).unwrap_or_default();
                self.add_contents(entry.target, image);
            }
        }
        Ok(())
    }

    /// Brings a survey that was begun at `began` up to date: the images, if names changed, and what was used since or is used
    /// under a lease. It stays true as long as `alone` is held.
    pub(crate) fn refresh(&self, survey: &mut Survey, began: Timestamp, alone: &Exclusive) -> Result<(), Error> {
        let leases = self.leases(alone)?;
        let is_busy = |path: &Path| -> Result<bool, FsError> {
            // A survey takes time. What a process used that is done by now is in an image or a record.
            let used = look(path)?.map(|kept| kept.used);
            Ok(used.is_some_and(|used| used > began || leases.iter().any(|lease| used >= *lease)))
        };
        let mut busy = InUse { anybody: !leases.is_empty(), ..InUse::default() };
        for step in &survey.steps {
            if is_busy(&step.record)? {
                busy.layers.insert(step.layer);
                busy.blobs.extend(&step.blobs);
            }
        }
        for path in std::mem::take(&mut survey.unreadable) {
            if !is_busy(&path)? {
                survey.unreadable.push(path);
            }
        }
        for blob in survey.blobs.keys() {
            if is_busy(&self.blob_path(*blob))? {
                busy.blobs.insert(*blob);
            }
        }
        for (layer, unpacked) in &survey.unpacked {
            if is_busy(&unpacked.path)? {
                busy.layers.insert(*layer);
            }
        }
        let downloads = self.fetched_dir();
        for (number, file) in survey.cache_files.iter().enumerate() {
            // Copying from a download does not mark it.
            if is_busy(&file.path)? || busy.anybody && file.path.starts_with(&downloads) {
                busy.cache_files.insert(number);
            }
        }
        survey.busy = busy;
        if self.entries()? != survey.listed {
            self.look_at_images(survey)?;
        }
        Ok(())
    }

    /// The content of a document, which does not count as used: a build with a lease surveys the store, too.
    fn look_into(&self, blob: &Descriptor) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_stored(blob, self.blob_path(blob.digest)).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Adds the blobs and layers of an image, as far as they can be read.
    pub(super) fn add_contents(&self, target: Descriptor, image: &mut StoredImage) {
        let mut todo = vec![target];
        while let Some(blob) = todo.pop() {
            if !image.blobs.insert(blob.digest) || blob.size > MAX_DOCUMENT {
                continue;
            }
            if blob.is_index() {
                let index = self.look_into(&blob).and_then(|bytes| Index::parse(&bytes).ok());
                todo.extend(index.map(|i| i.manifests).unwrap_or_default());
            } else if blob.is_manifest() {
                let Some(manifest) = self.look_into(&blob).and_then(|b| Manifest::parse(&b).ok()) else { continue };
                let config = self.look_into(&manifest.config).and_then(|bytes| ImageConfig::parse(&bytes).ok());
                image.layers.extend(config.map(|c| c.rootfs.diff_ids).unwrap_or_default());
                image.blobs.insert(manifest.config.digest);
                image.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
    }
}

/// Disk usage and modification time of one file or directory itself. `None`: it is gone.
fn look(path: &Path) -> Result<Option<CacheFile>, FsError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => {
            let used = Timestamp { secs: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0) };
            Ok(Some(CacheFile { path: path.to_owned(), bytes: meta.blocks() * 512, used }))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FsError::new("stat", path, e)),
    }
}
