//! Directories for work in progress.
//!
//! **Holds.** The process that makes a scratch directory locks it (a flock of the directory itself) for as long as it lives.
//! An unlocked one belongs to a dead process.
//! **Order.** `scratch/` is locked shared from before a directory is made until that is locked. The sweep locks `scratch/`
//! exclusively, so it never sees a directory that is merely not locked yet.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::fs::{self, FsError};
use crate::base::unfinished::Unfinished;
use crate::base::unique;

/// Prefix of the directories of processes that wait to remove something from the store.
pub(super) const PRUNER: &str = "prune-";
/// Prefix of leases.
pub(super) const LEASE: &str = "use-";

/// A directory for work in progress, removed on drop.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: Unfinished,
    /// Holds the flock.
    _dir: File,
}

impl Scratch {
    /// Makes an empty directory in `parent` and locks it.
    pub(super) fn new(parent: &Path) -> Result<Self, FsError> {
        Self::named(parent, "")
    }

    /// The same, with a name that begins with `prefix`.
    pub(super) fn named(parent: &Path, prefix: &str) -> Result<Self, FsError> {
        let guard = match fs::open(parent) {
            Err(e) if e.is_not_found() => {
                fs::ensure_dir(parent)?;
                fs::open(parent)?
            }
            other => other?,
        };
        guard.lock_shared().map_err(|e| FsError::new("lock", parent, e))?;
        let path = loop {
            let path = Unfinished::new(&parent.join(unique::name(prefix)));
            match fs::create_dir(path.path(), 0o700) {
                Ok(()) => break path,
                // Another pid namespace, or a dead process that had our number.
                Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        };
        let dir = fs::open(path.path())?;
        dir.lock().map_err(|e| FsError::new("lock", path.path(), e))?;
        Ok(Self { path, _dir: dir })
    }

    /// The directory, mode 0700.
    pub(crate) fn path(&self) -> &Path {
        self.path.path()
    }

    /// Makes an empty directory in it.
    pub(crate) fn subdir(&self, name: &str) -> Result<PathBuf, FsError> {
        let path = self.path().join(name);
        fs::create_dir(&path, 0o755)?;
        Ok(path)
    }

    /// Removes it now. Ok: it is gone with everything in it.
    pub(crate) fn remove(self) -> Result<(), FsError> {
        fs::remove_tree(self.path())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays is swept when the store is opened again.
        let _ = fs::remove_tree(self.path());
    }
}

/// Removes what dead processes left, as far as this process may. Best effort: scratch that stays (files of another user, a
/// read-only file system) costs only space, and must not keep anybody from building.
/// Returns the directory of a process that waits to prune, if there is one.
pub(super) fn sweep(parent: &Path) -> Option<PathBuf> {
    let names = fs::list(parent).ok().filter(|names| !names.is_empty())?;
    let pruner = names.iter().find(|name| name.as_encoded_bytes().starts_with(PRUNER.as_bytes()));
    let pruner = pruner.map(|name| parent.join(name));
    let dead = match fs::open(parent) {
        Ok(guard) if guard.try_lock().is_ok() => unlocked(parent, &names),
        _ => return pruner,
    };
    // `scratch/` is unlocked again, and the dead directories are locked by us: nobody waits for their removal.
    for (path, _lock) in dead {
        let _ = fs::remove_tree(&path);
    }
    pruner
}

/// The unlocked directories, each with the lock that we now have on it.
fn unlocked(parent: &Path, names: &[std::ffi::OsString]) -> Vec<(PathBuf, Option<File>)> {
    let mut dead = Vec::new();
    for name in names {
        let path = parent.join(name);
        match fs::open(&path) {
            Ok(file) => {
                if file.try_lock().is_ok() {
                    dead.push((path, Some(file)));
                }
            }
            // A living owner keeps it at mode 0700, readable to us.
            Err(e) if e.source.kind() == io::ErrorKind::PermissionDenied => dead.push((path, None)),
            Err(_) => {}
        }
    }
    dead
}
