//! Repair of the store's own files: what can be derived is written again, and lost names are reported.

use std::ffi::OsString;

use crate::base::fs::{self, FsError};
use crate::base::publish;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Index;

use super::Error;
use super::directory::Store;

/// A copy of `index.json` from before the last change.
pub(super) const PREVIOUS: &str = "index.json.old";

impl Store {
    /// Keeps the present `index.json` under another name before it is replaced. Best effort: only
    /// [`Store::recover_index`] reads it.
    pub(super) fn keep_previous(&self) {
        let previous = self.root().join(PREVIOUS);
        if fs::remove_file(&previous).is_ok() {
            let _ = std::fs::hard_link(self.index_path(), previous);
        }
    }

    /// Replaces a damaged `index.json` by the names from before the last change, and an unnamed entry for every other image
    /// that is stored. The damaged file is kept. The caller holds the lock on names. Ok: `index.json` is valid.
    pub(super) fn recover_index(&self, why: &str) -> Result<Index, Error> {
        let path = self.index_path();
        let previous = fs::read_spare(&self.root().join(PREVIOUS)).and_then(|bytes| Index::parse(&bytes).ok());
        let known = previous.is_some();
        let mut index = previous.unwrap_or_else(|| Index::new(Vec::new()));
        for image in self.stored_images() {
            if !index.manifests.iter().any(|entry| entry.digest == image.digest) {
                index.manifests.push(image);
            }
        }
        let mut kept = None;
        for number in 1..1000 {
            let aside = self.root().join(format!("index.json.damaged-{number}"));
            match fs::rename_new(&path, &aside) {
                Ok(true) => kept = Some(aside),
                Ok(false) => continue,
                // It is missing: there is nothing to keep.
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
            break;
        }
        publish::durable(&path, &index.to_bytes(), 0o644)?;
        let names = if known { "image names are those before the last change" } else { "images have lost their names" };
        let kept = kept.map(|kept| format!("; the damaged file is now {}", kept.display())).unwrap_or_default();
        self.notices().note(names, format!("{}: {why}{kept}", path.display()));
        Ok(index)
    }

    /// Every manifest among the blobs.
    pub(super) fn stored_images(&self) -> Vec<Descriptor> {
        let names = fs::list(&self.root().join("blobs/sha256")).unwrap_or_default();
        let digests = names.iter().filter_map(|name| format!("sha256:{}", name.to_string_lossy()).parse().ok());
        digests.filter_map(|digest| self.document(digest).ok().flatten()).filter(Descriptor::is_manifest).collect()
    }

    /// Creates missing directories of the store, and removes files in their places. Best effort: a missing
    /// directory is reported when it is needed.
    pub(super) fn repair_directories(&self, names: &[&str]) {
        for name in names {
            let dir = self.root().join(name);
            if std::fs::symlink_metadata(&dir).is_ok_and(|there| there.is_dir()) {
                continue;
            }
            if fs::make_dir(&dir).is_ok() {
                self.notices().note(format!("made {} again", dir.display()), "it was missing or no directory");
            }
        }
    }

    /// Writes `oci-layout`, by which other tools recognise the store, if it is missing or damaged.
    pub(super) fn repair_marker(&self, content: &[u8]) -> Result<(), FsError> {
        let path = self.root().join("oci-layout");
        if fs::read_spare(&path).is_some_and(|there| there == content) {
            return Ok(());
        }
        publish::atomic_over(&path, content, 0o644)?;
        self.notices().note(format!("wrote {} again", path.display()), "it was missing or damaged");
        Ok(())
    }
}

/// Whether `name` is one of the store's own in its root directory.
pub(super) fn is_ours(name: &str) -> bool {
    name == PREVIOUS || name.starts_with("index.json.damaged-") || name.starts_with(".draft-")
}

/// A name in the store's root directory that is not the store's own.
pub(super) fn foreign(names: Vec<OsString>, known: &[&str]) -> Option<String> {
    let names = names.into_iter().map(|name| name.to_string_lossy().into_owned());
    names.into_iter().find(|name| !known.contains(&name.as_str()) && !is_ours(name))
}

/// The directories that every command relies on.
pub(super) const DIRECTORIES: &[&str] =
    &["blobs/sha256", "cache/v1", "cache/slots", "claims", "layers", "context", "mounts", "scratch"];
