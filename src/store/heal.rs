//! Verification and repair of the files at the store's top, and removal of what is damaged.
//!
//! **Order.** Damaged files are moved away under the exclusive lock, which is held for some renames: builds go on before and
//! after. Unpacked files that a running build may have mounted stay.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use crate::base::damage::{Checked, Damage};
use crate::base::digest::BlobDigest;
use crate::base::fs::{self, FsError};
use crate::base::lock::Exclusive;
use crate::base::{publish, sealed};
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Index;
use crate::oci::reference::Reference;

use super::directory::Store;
use super::layout::MARKER;
use super::open::FORMAT;
use super::persist::NEW_LAYOUT;
use super::recover::PREVIOUS;
use super::{CONTAINERD_NAME, Error, REF_NAME, Scratch};

impl Store {
    /// Reads the files at the store's top.
    pub(crate) fn check_files(&self) -> Checked {
        let at = |name: &str| self.root().join(name);
        let is = |want: Vec<u8>| move |found: Vec<u8>| (found != want).then(|| "it is not as kiln wrote it".to_owned());
        let index = |path: &Path| Checked::read(path, |content| wrong_index(path, &content));
        let all = [
            Checked::read(&at("version"), is(version())),
            Checked::read(&at("oci-layout"), is(MARKER.to_vec())),
            index(&self.index_path()),
            index(&at(PREVIOUS)),
        ];
        all.into_iter().collect()
    }

    /// Writes the file of [`Store::check_files`] at `path` again, if it is one. Ok(None): it is none. Ok(Some): it is right;
    /// these names are lost. The blobs `bad` are damaged.
    pub(crate) fn repair_file(&self, path: &Path, bad: &BTreeSet<BlobDigest>) -> Result<Option<Vec<Reference>>, Error> {
        match path.file_name().and_then(|name| name.to_str()).filter(|_| path.parent() == Some(self.root())) {
            Some("version") => publish::atomic_over(path, &version(), NEW_LAYOUT)?,
            Some("oci-layout") => self.repair_marker(MARKER)?,
            Some(PREVIOUS) => fs::remove(path)?,
            Some("index.json") => return self.repair_index(bad).map(Some),
            _ => return Ok(None),
        }
        Ok(Some(Vec::new()))
    }

    /// Keeps the sound entries of `index.json`, and of the one before the last change those with other names. If an entry is
    /// lost, every other complete image is listed without a name. Returns the names that are lost.
    fn repair_index(&self, bad: &BTreeSet<BlobDigest>) -> Result<Vec<Reference>, Error> {
        let lock = self.names_lock()?;
        let path = self.index_path();
        let read = |path: &Path| fs::read_spare(path).and_then(|bytes| Index::parse(&bytes).ok());
        let Some(now) = read(&path) else {
            self.recover_index("it is no index")?;
            return Ok(Vec::new());
        };
        let (mut kept, lost): (Vec<_>, Vec<_>) = now.manifests.into_iter().partition(|entry| self.is_sound(entry, bad));
        if !lost.is_empty() {
            for entry in read(&self.root().join(PREVIOUS)).map(|index| index.manifests).unwrap_or_default() {
                let named = name(&entry).is_some() && !kept.iter().any(|other| name(other) == name(&entry));
                if named && self.is_sound(&entry, bad) {
                    kept.push(entry);
                }
            }
            for image in self.stored_images() {
                let listed = kept.iter().any(|entry| entry.digest == image.digest);
                if !listed && self.lacking(&image, bad, &mut BTreeMap::new()).is_empty() {
                    kept.push(image);
                }
            }
        }
        let lost = lost.iter().filter_map(name).filter(|lost| !kept.iter().any(|e| name(e).as_ref() == Some(lost)));
        let lost = lost.collect();
        let text = Index::new(kept).to_bytes();
        let mut draft = self.draft()?;
        draft.write_all(&text).map_err(|e| FsError::new("write", &path, e))?;
        sealed::note(draft.file(), &text);
        self.persist([draft.path().to_owned()].into())?;
        draft.publish(&path, 0o644)?;
        lock.sync_all().map_err(|e| FsError::new("sync", self.root(), e))?;
        Ok(lost)
    }

    /// Whether an entry of `index.json` says the truth about a stored manifest or index.
    fn is_sound(&self, entry: &Descriptor, bad: &BTreeSet<BlobDigest>) -> bool {
        names_agree(entry)
            && self.fault_of(entry, bad).is_none()
            && matches!(self.document(entry.digest), Ok(Some(is)) if is.media_type == entry.media_type)
    }

    /// Moves a damaged file or directory to `trash`, unless another one has its place. Ok(false): a running build may use it,
    /// so it stays.
    pub(crate) fn discard(&self, damage: &Damage, trash: &Scratch, alone: &Exclusive) -> Result<bool, Error> {
        if !damage.is_there() {
            return Ok(true);
        }
        let path = &damage.path;
        let away = |what: &str| trash.path().join(crate::base::unique::name(what));
        if path.starts_with(self.mounts_dir()) {
            let Some(instance) = path.parent() else { return Ok(false) };
            let Some(_locked) = self.try_lock_instance(instance)? else { return Ok(false) };
            fs::rename(path, &away("id-"))?;
            return match fs::rename(&instance.join("data"), &away("data-")) {
                Err(e) if !e.is_not_found() => Err(e.into()),
                _ => Ok(true),
            };
        }
        let is_dir = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        if is_dir && path.starts_with(self.layers_dir()) {
            // Whoever uses a layer marks its directory.
            let used = path.parent().map(fs::modified).transpose()?.unwrap_or_default();
            if self.leases(alone)?.iter().any(|lease| used >= *lease) {
                return Ok(false);
            }
        }
        match fs::rename(path, &away("damaged-")) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(true),
        }
    }
}

fn version() -> Vec<u8> {
    format!("{FORMAT}\n").into_bytes()
}

/// What is wrong with an `index.json` that holds `content`.
fn wrong_index(path: &Path, content: &[u8]) -> Option<String> {
    match (Index::parse(content), sealed::is_as_noted(path, content)) {
        (Err(e), _) => Some(e.to_string()),
        (Ok(_), Some(false)) => Some("it is damaged, or another program changed it".to_owned()),
        (Ok(index), _) => {
            let wrong = index.manifests.iter().find(|entry| !names_agree(entry))?;
            Some(format!("an entry of {} has two different names", wrong.digest))
        }
    }
}

/// Whether both annotations with the name of an image, if it has both, say the same.
fn names_agree(entry: &Descriptor) -> bool {
    let parse = |key: &str| entry.annotations.get(key).map(|text| text.parse::<Reference>().ok());
    match (parse(REF_NAME), parse(CONTAINERD_NAME)) {
        (Some(short), Some(full)) => short.is_some() && short == full,
        _ => true,
    }
}

fn name(entry: &Descriptor) -> Option<Reference> {
    let parse = |key: &str| entry.annotations.get(key).and_then(|text| text.parse().ok());
    parse(CONTAINERD_NAME).or_else(|| parse(REF_NAME))
}
