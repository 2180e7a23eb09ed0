//! Durability: the blobs of an image are on the disk before its name is.
//!
//! **Holds.** A blob of mode 0444 was synced after it was written; one of mode 0400 may exist in memory only. A blob that may
//! not have been synced before the machine last started is read once before it is used. In the same way, the mode of
//! `version` says whether the store's own directories are on the disk.
//! **Order.** New blobs are synced together with the new `index.json`, which is then renamed. Records are not synced: no name
//! leads to one, and a lost one costs one run of its step. Builds that make nothing new sync nothing.

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
use super::survey::StoredImage;

/// Mode of a blob that may not be on the disk.
pub(super) const NEW: u32 = 0o400;
/// Mode of a blob that is on the disk.
pub(super) const SYNCED: u32 = 0o444;
/// Mode of `version` while the store's directories may not be on the disk.
pub(super) const NEW_LAYOUT: u32 = 0o600;
/// Mode of `version` afterwards.
pub(super) const SYNCED_LAYOUT: u32 = 0o644;

/// More bytes than this are synced before the lock on names is taken.
const MUCH: u64 = 4 << 20;
/// How many directories, from the store's own upwards, may be new.
const ABOVE: usize = 4;

/// What the metadata of a stored file say of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integrity {
    /// It is complete: synced, or written since the machine started.
    Sound,
    /// It may be incomplete: the machine went down after it was written, and it was not synced before.
    Doubtful,
    /// It is not a readable file of the right size.
    Wrong,
}

impl Integrity {
    /// Judges a blob of `size` bytes, on a machine that started at `booted`.
    pub(super) fn of(meta: &Metadata, size: u64, booted: Timestamp) -> Self {
        let mode = meta.mode() & 0o777;
        let changed = Timestamp { secs: meta.ctime(), nanos: u32::try_from(meta.ctime_nsec()).unwrap_or(0) };
        match () {
            () if !meta.is_file() || meta.len() != size || mode & 0o400 == 0 => Integrity::Wrong,
            () if mode == SYNCED || changed >= booted => Integrity::Sound,
            () => Integrity::Doubtful,
        }
    }
}

impl Store {
    /// Whether the blob at `path` is stored. A doubtful one is read once: if it is complete, it is on the disk.
    pub(super) fn is_stored(&self, blob: &Descriptor, path: &Path) -> io::Result<bool> {
        let meta = match std::fs::symlink_metadata(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(false),
            other => other?,
        };
        let why = match Integrity::of(&meta, blob.size, self.booted()) {
            Integrity::Sound => return Ok(true),
            Integrity::Wrong => format!("it has {} bytes instead of {}, or cannot be read", meta.len(), blob.size),
            Integrity::Doubtful => {
                let read = self.open_stored(blob, path.to_owned()).map_err(io::Error::other);
                match read.and_then(|mut content| io::copy(&mut content, &mut io::sink())) {
                    Ok(_) => {
                        // Best effort: in a read-only store it is read again next time.
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

    /// The files that have to be synced before `target` gets a name. If they are large, they are synced here.
    pub(super) fn unsynced_of(&self, target: &Descriptor) -> Result<BTreeSet<PathBuf>, Error> {
        let mut paths = self.unsynced.take()?;
        let mut image = StoredImage::default();
        self.add_contents(target.clone(), &mut image);
        for digest in image.blobs {
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

    /// Ok: the files at `paths` are on the disk, with their names if they are blobs; and so are the store's directories.
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
        // Best effort: without the modes, files are synced or read once more.
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
