//! Work that one process does for all that want it.
//!
//! **Holds.** While a [`Claim`] lives, nobody else has one of that name, in any process that uses the store. It ends
//! with its process. Whoever waited then looks whether the result is there, and else makes it.
//! **On disk.** `claims/<name>`: flock'ed by its holder and removed by it; what a killed holder leaves is taken over.
//! **Order.** A claim is taken when its holder has all that it needs: whoever has one waits for nobody who waits for one,
//! so that no two processes wait for each other. Locks below a claim (cache mounts, layers being unpacked) are taken in
//! one order and their holders take no claim.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::fs::{self, FsError};
use crate::base::lock::{Patience, taken};

use super::Error;
use super::directory::Store;

/// Keeps others from the same work.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
}

/// What waiting for a claim led to.
#[derive(Debug)]
pub enum Claiming {
    /// It is ours. What it is about may be there by now.
    Ours(Claim),
    /// Whoever had it failed at it: everybody tries for themselves, at once, and sees why.
    Failed,
}

impl Store {
    /// Waits until nobody else does the work called `name` (a plain file name).
    pub fn claim(&self, name: &str, patience: &mut Patience<'_>) -> Result<Claiming, Error> {
        let path = self.claims_dir().join(name);
        let mut file = open(&path)?;
        let got = patience.wait(&path, || {
            while taken(file.try_lock(), &path)?.is_some() {
                if is_named(&file, &path)? {
                    // Left by a process that was killed.
                    file.set_len(0).map_err(|e| FsError::new("clear", &path, e))?;
                    return Ok(Some(true));
                }
                let said = file.metadata().map_err(|e| FsError::new("stat", &path, e))?.len();
                if said > 0 {
                    return Ok(Some(false));
                }
                file = open(&path)?;
            }
            Ok(None)
        })?;
        Ok(if got { Claiming::Ours(Claim { path, file }) } else { Claiming::Failed })
    }

    /// Removes what killed processes left in `claims/`.
    pub(super) fn sweep_claims(&self) -> Result<(), Error> {
        for name in fs::list(&self.claims_dir())? {
            let path = self.claims_dir().join(name);
            let Ok(file) = fs::open(&path) else { continue };
            if taken(file.try_lock(), &path)?.is_some() && is_named(&file, &path)? {
                drop(Claim { path, file });
            }
        }
        Ok(())
    }
}

impl Claim {
    /// Ends it, and tells those who wait that trying again alone is of no use.
    pub fn failed(mut self) {
        // If they are not told, they try one after the other.
        let _ = self.file.write_all(b"failed\n");
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The file goes before its lock: whoever gets that lock sees that it is nobody's any more.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> Result<File, FsError> {
    match fs::open_lock(path) {
        Err(e) if e.is_not_found() || e.source.kind() == std::io::ErrorKind::NotADirectory => {
            if let Some(dir) = path.parent() {
                fs::make_dir(dir)?;
            }
            fs::open_lock(path)
        }
        other => other,
    }
}

/// `path` still names `file`.
fn is_named(file: &File, path: &Path) -> Result<bool, FsError> {
    let ours = file.metadata().map_err(|e| FsError::new("stat", path, e))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FsError::new("stat", path, e)),
    }
}
