//! What a name stands for is on the disk before the name is.
//!
//! **Holds.** A blob of mode 0444 was synced after it was written; one of mode 0400 may exist in memory only. A blob that is
//! not known to be synced and older than the machine's start is read once before it counts as there. The same bits of
//! `version` say whether the store's own directories are on the disk.
//! **Order.** New blobs are synced together with the replacement of `index.json`, which then gets its name. Records are not: no
//! name leads to one, and one that is lost or damaged costs a run of its step.
//! Many builds have nothing new: they sync nothing.

use std::collections::BTreeSet;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::base::durable;
use crate::base::fs;
use crate::base::time::Timestamp;
use crate::oci::descriptor::Descriptor;

use super::Error;
use super::directory::Store;
use super::survey::Held;

/// Of a blob, until it is synced.
pub(super) const NEW: u32 = 0o400;
/// Of a blob that is on the disk.
pub(super) const SYNCED: u32 = 0o444;
/// Of `version` while the directories of the store may not be on the disk, and afterwards.
pub(super) const NEW_LAYOUT: u32 = 0o600;
pub(super) const SYNCED_LAYOUT: u32 = 0o644;

/// What is larger is synced before the lock on names is taken.
const MUCH: u64 = 4 << 20;
/// Directories above the store that may be new, too.
const ABOVE: usize = 4;

/// What can be said of a stored file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was synced, or written since the machine started.
    Sound,
    /// The machine went down after it was written, and it was not synced before.
    Doubtful,
    /// It is no file of this size that can be read.
    Wrong,
}

impl Standing {
    /// What the metadata of a blob of `size` bytes say, on a machine that started at `booted`.
    pub(super) fn of(meta: &Metadata, size: u64, booted: Timestamp) -> Self {
        let mode = meta.mode() & 0o777;
        let changed = Timestamp { secs: meta.ctime(), nanos: u32::try_from(meta.ctime_nsec()).unwrap_or(0) };
        match () {
            () if !meta.is_file() || meta.len() != size || mode & 0o400 == 0 => Standing::Wrong,
            () if mode == SYNCED || changed >= booted => Standing::Sound,
            () => Standing::Doubtful,
        }
    }
}

impl Store {
    /// Whether the blob at `path` is there. A doubtful one is read once: if it is whole, it came from the disk.
    pub(super) fn is_there(&self, blob: &Descriptor, path: &Path) -> io::Result<bool> {
        let meta = match std::fs::symlink_metadata(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(false),
            other => other?,
        };
        let why = match Standing::of(&meta, blob.size, self.booted()) {
            Standing::Sound => return Ok(true),
            Standing::Wrong => format!("it has {} bytes instead of {}, or cannot be read", meta.len(), blob.size),
            Standing::Doubtful => {
                let read = self.open_stored(blob, path.to_owned()).map_err(io::Error::other);
                match read.and_then(|mut content| io::copy(&mut content, &mut io::sink())) {
                    Ok(_) => {
                        // On a read-only store it is read again next time.
                        let _ = std::fs::set_permissions(path, Permissions::from_mode(SYNCED));
                        return Ok(true);
                    }
                    Err(e) => e.to_string(),
                }
            }
        };
        self.notices().note(format!("blob {} is made or fetched again", blob.digest), why);
        Ok(false)
    }

    /// What has to be on the disk before `target` gets a name. What is much is synced already.
    pub(super) fn unsynced_of(&self, target: &Descriptor) -> Result<BTreeSet<PathBuf>, Error> {
        let mut paths = self.unsynced.take()?;
        let mut held = Held::default();
        self.gather(target.clone(), &mut held);
        for digest in held.blobs {
            let path = self.blob_path(digest);
            if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o777 != SYNCED) {
                paths.insert(path);
            }
        }
        let size = |path: &PathBuf| std::fs::symlink_metadata(path).map_or(0, |meta| meta.len());
        if paths.iter().map(size).sum::<u64>() > MUCH {
            self.persist(std::mem::take(&mut paths))?;
        }
        Ok(paths)
    }

    /// Ok: the files at `paths` are on the disk, with their names if they are blobs; and so is the store itself.
    pub(super) fn persist(&self, mut paths: BTreeSet<PathBuf>) -> Result<(), Error> {
        let new_layout = !self.layout_synced.load(Ordering::Relaxed);
        if paths.is_empty() && !new_layout {
            return Ok(());
        }
        let blobs = self.root().join("blobs/sha256");
        let made: Vec<PathBuf> = paths.iter().filter(|path| path.starts_with(&blobs)).cloned().collect();
        if !made.is_empty() {
            paths.insert(blobs);
        }
        let version = self.root().join("version");
        if new_layout {
            let above = self.root().ancestors().take(ABOVE).filter(|dir| fs::open(dir).is_ok()).map(Path::to_owned);
            paths.extend(above.chain(["blobs", "oci-layout", "version"].map(|name| self.root().join(name))));
        }
        durable::sync(&paths)?;
        // Only hints: whoever cannot set them syncs or reads once more.
        for path in made {
            let _ = std::fs::set_permissions(&path, Permissions::from_mode(SYNCED));
        }
        if new_layout {
            let _ = std::fs::set_permissions(&version, Permissions::from_mode(SYNCED_LAYOUT));
            self.layout_synced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
