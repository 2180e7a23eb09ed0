//! What the store holds, what it costs on disk, and who needs it.
//!
//! **Holds.** Sizes are what the disk gives for it (allocated blocks), as `du` counts. An image that cannot be read in
//! full still needs whatever of it can be read: damage never makes more of an image go away.
//! **Not here.** What a record says: the caller brings [`Step`]s. What goes: `gc`.

use std::collections::{BTreeMap, BTreeSet};
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

/// How the directories are called that hold a layer's files: `fs2`, `fs2-user-…`, `fs2-plain`.
const FORMS: &[u8] = b"fs";

/// One cached step, as the cache describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its record.
    pub record: PathBuf,
    /// The layer it made.
    pub layer: DiffId,
    /// That layer as stored.
    pub blobs: Vec<BlobDigest>,
    /// When it was made or last found.
    pub used: Timestamp,
}

/// One image of `index.json` with everything it consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Empty = the image is unnamed.
    pub names: Vec<Reference>,
    /// Manifests, configs and layers that are stored.
    pub blobs: BTreeSet<BlobDigest>,
    /// Its layers.
    pub layers: BTreeSet<DiffId>,
}

/// Something on disk that can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// What it takes.
    pub bytes: u64,
    /// When it was made or last used.
    pub used: Timestamp,
}

/// A layer's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Where it is.
    pub path: PathBuf,
    /// The directories in it that hold its files, one for each form they are needed in.
    pub forms: Vec<PathBuf>,
    /// What the unpacked files take.
    pub files: u64,
    /// What is kept beside them: the layer's tree and the like.
    pub about: u64,
    /// When it was made or last used.
    pub used: Timestamp,
}

/// Everything in a store that takes space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Every stored blob and what it takes.
    pub blobs: BTreeMap<BlobDigest, u64>,
    /// The images by digest of their manifest or index.
    pub images: BTreeMap<BlobDigest, Held>,
    /// The cached steps.
    pub steps: Vec<Step>,
    /// Unpacked layers.
    pub unpacked: BTreeMap<DiffId, Unpacked>,
    /// Stat indexes of context directories, what explains misses, downloads.
    pub notes: Vec<Kept>,
    /// Cache mounts.
    pub mounts: Vec<MountInstance>,
    /// `index.json` when the images were looked at.
    pub(super) listed: Vec<Entry>,
    /// What somebody uses who goes on beside a removal.
    pub busy: Busy,
}

/// What has been made or marked since whoever uses the store began: it stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// Blobs.
    pub blobs: BTreeSet<BlobDigest>,
    /// Layers whose files or records are used.
    pub layers: BTreeSet<DiffId>,
    /// Numbers of notes.
    pub notes: BTreeSet<usize>,
    /// Somebody goes on.
    pub anybody: bool,
}

impl Survey {
    /// What all of it takes.
    pub fn total(&self) -> u64 {
        let unpacked = self.unpacked.values().map(|u| u.files + u.about);
        let others = self.notes.iter().map(|n| n.bytes).chain(self.mounts.iter().map(|m| m.bytes));
        self.blobs.values().copied().chain(unpacked).chain(others).sum()
    }

    /// What the named images take: never given up.
    pub fn named(&self) -> u64 {
        let blobs: BTreeSet<&BlobDigest> =
            self.images.values().filter(|i| !i.names.is_empty()).flat_map(|i| &i.blobs).collect();
        blobs.into_iter().filter_map(|b| self.blobs.get(b)).sum()
    }
}

impl Store {
    /// Looks at everything. `steps` are all records of the cache. Ok: the survey was true while it was made; it stays
    /// true as long as the caller holds [`Store::exclude`]; [`Store::renew`] makes it true later.
    pub fn survey(&self, steps: Vec<Step>) -> Result<Survey, Error> {
        let mut survey = Survey { steps, mounts: self.mount_instances()?, ..Survey::default() };
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
                let about = usage(&path)?.saturating_sub(files);
                let unpacked = Unpacked { path, forms, files, about, used: kept.used };
                survey.unpacked.insert(layer, unpacked);
            }
        }
        for dir in [self.contexts_dir(), self.slots_dir(), self.fetched_dir()] {
            for name in fs::list(&dir)? {
                let path = dir.join(name);
                if let Some(kept) = look(&path)? {
                    survey.notes.push(Kept { bytes: usage(&path)?, ..kept });
                }
            }
        }
        Ok(survey)
    }

    fn look_at_images(&self, survey: &mut Survey) -> Result<(), Error> {
        survey.listed = self.entries()?;
        survey.images.clear();
        for entry in survey.listed.iter().cloned() {
            let held = survey.images.entry(entry.target.digest).or_default();
            held.names.extend(entry.name);
            if held.blobs.is_empty() {
                self.gather(entry.target, held);
            }
        }
        Ok(())
    }

    /// Makes a survey that was begun at `began` true again: names anew if they changed, and what was used since, or is by
    /// somebody who goes on. `_alone` keeps it true.
    pub fn renew(&self, survey: &mut Survey, began: Timestamp, alone: &Exclusive) -> Result<(), Error> {
        let leases = self.leases(alone)?;
        let is_busy = |path: &Path| -> Result<bool, FsError> {
            // A survey takes time: what was used meanwhile by somebody who is done is in an image or a record.
            let used = look(path)?.map(|kept| kept.used);
            Ok(used.is_some_and(|used| used > began || leases.iter().any(|lease| used >= *lease)))
        };
        let mut busy = Busy { anybody: !leases.is_empty(), ..Busy::default() };
        for step in &survey.steps {
            if is_busy(&step.record)? {
                busy.layers.insert(step.layer);
                busy.blobs.extend(&step.blobs);
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
        for (number, note) in survey.notes.iter().enumerate() {
            // Whoever copies from a download does not mark it.
            if is_busy(&note.path)? || busy.anybody && note.path.starts_with(&downloads) {
                busy.notes.insert(number);
            }
        }
        survey.busy = busy;
        if self.entries()? != survey.listed {
            self.look_at_images(survey)?;
        }
        Ok(())
    }

    /// Adds what can be read of an image.
    pub(super) fn gather(&self, target: Descriptor, held: &mut Held) {
        let mut todo = vec![target];
        while let Some(blob) = todo.pop() {
            if !held.blobs.insert(blob.digest) || blob.size > MAX_DOCUMENT {
                continue;
            }
            if blob.is_index() {
                let index = self.get(&blob).ok().and_then(|bytes| Index::parse(&bytes).ok());
                todo.extend(index.map(|i| i.manifests).unwrap_or_default());
            } else if blob.is_manifest() {
                let Some(manifest) = self.get(&blob).ok().and_then(|b| Manifest::parse(&b).ok()) else { continue };
                let config = self.get(&manifest.config).ok().and_then(|bytes| ImageConfig::parse(&bytes).ok());
                held.layers.extend(config.map(|c| c.rootfs.diff_ids).unwrap_or_default());
                held.blobs.insert(manifest.config.digest);
                held.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
    }
}

/// What one file or directory itself takes, and its time; `None` = it went away.
fn look(path: &Path) -> Result<Option<Kept>, FsError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => {
            let used = Timestamp { secs: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0) };
            Ok(Some(Kept { path: path.to_owned(), bytes: meta.blocks() * 512, used }))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FsError::new("stat", path, e)),
    }
}
