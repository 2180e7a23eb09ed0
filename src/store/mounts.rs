//! Cache mounts on disk: what `RUN --mount=type=cache` keeps between builds.
//!
//! **On disk.** `mounts/<hash of the id>/<n>/{id,lock,data}`. Instance 0 is the one that everybody uses; further ones
//! are those of `sharing=private` while it was in use (M-7).
//! **Order.** Whoever replaces or removes `data` holds the instance's `lock` exclusively, and leaves the lock where it
//! is: somebody may be waiting for it. `id` is there before `data`.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::digest::Sha256;
use crate::base::fs::{self, FsError};
use crate::base::publish;
use crate::base::time::Timestamp;

use super::Error;
use super::directory::Store;
use super::usage::usage;

/// Hexadecimal digits of the hash in a directory's name.
const NAME: usize = 32;

/// One instance of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id, which is any text.
    pub id: String,
    /// `mounts/<hash>/<n>`.
    pub path: PathBuf,
    /// Counted from 0.
    pub number: u64,
    /// What its files take on disk.
    pub bytes: u64,
    /// When somebody last mounted it.
    pub used: Timestamp,
    /// Somebody has it mounted right now.
    pub busy: bool,
}

/// An instance nobody else uses.
#[derive(Debug)]
pub struct Claimed {
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// `mounts/<hash>`: an id is any text, its hash is the directory's name (M-6, S-21).
    pub fn mount_dir(&self, id: &str) -> PathBuf {
        self.mounts_dir().join(mount_name(id))
    }

    /// All instances that hold something, by id.
    pub fn mount_instances(&self) -> Result<Vec<Instance>, Error> {
        let mut found = Vec::new();
        for name in fs::list(&self.mounts_dir())? {
            let dir = self.mounts_dir().join(name);
            for number in fs::list(&dir)? {
                let path = dir.join(&number);
                let number = number.to_str().and_then(|n| n.parse().ok());
                if let (Some(number), Some(id)) = (number, fs::read_opt(&path.join("id"))?) {
                    found.extend(instance(path, number, String::from_utf8_lossy(&id).into_owned())?);
                }
            }
        }
        found.sort_by(|a, b| (&a.id, a.number).cmp(&(&b.id, b.number)));
        Ok(found)
    }

    /// Waits until nobody uses an instance, which is made if it is not there, and keeps others from it.
    /// `waiting` is told if that takes time.
    pub fn claim_mount(&self, id: &str, number: u64, waiting: &mut dyn FnMut()) -> Result<Claimed, Error> {
        let path = self.mount_dir(id).join(number.to_string());
        fs::ensure_dir(&path)?;
        let lock = fs::open_lock(&path.join("lock"))?;
        if lock.try_lock().is_err() {
            waiting();
            lock.lock().map_err(|e| FsError::new("lock", &path.join("lock"), e))?;
        }
        Ok(Claimed { path, _lock: lock })
    }

    /// Keeps others from an instance, unless somebody has it mounted: then `None`.
    pub fn try_claim_mount(&self, instance: &Instance) -> Result<Option<Claimed>, Error> {
        let path = instance.path.join("lock");
        let lock = fs::open_lock(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Claimed { path: instance.path.clone(), _lock: lock })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(e)) => Err(FsError::new("lock", &path, e).into()),
        }
    }
}

impl Claimed {
    /// Where the files are; it need not exist.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Puts `made`, a directory on the same file system, in the place of what is there; that goes to `old`, which must
    /// not exist. Ok: the instance holds what `made` held.
    pub fn replace(&self, id: &str, made: &Path, old: &Path) -> Result<(), Error> {
        publish::atomic(&self.path.join("id"), id.as_bytes(), 0o600)?;
        self.take(old)?;
        Ok(fs::rename(made, &self.data())?)
    }

    /// Moves what is there to `to`, which must not exist. Ok: the instance is empty; the next build makes it anew.
    pub fn take(&self, to: &Path) -> Result<(), Error> {
        match fs::rename(&self.data(), to) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }
}

/// The directory's name for an id.
pub fn mount_name(id: &str) -> String {
    let mut name = Sha256::of(id.as_bytes()).hex();
    name.truncate(NAME);
    name
}

/// `None`: it holds nothing.
fn instance(path: PathBuf, number: u64, id: String) -> Result<Option<Instance>, Error> {
    let data = path.join("data");
    if !data.is_dir() {
        return Ok(None);
    }
    let bytes = usage(&data)?;
    // Whoever mounts it touches the lock.
    let time = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.mtime()).unwrap_or(0);
    let used = Timestamp::from_secs(time(&data).max(time(&path.join("lock"))));
    let lock = fs::open(&path.join("lock"));
    let busy = lock.is_ok_and(|lock| lock.try_lock().is_err());
    Ok(Some(Instance { id, path, number, bytes, used, busy }))
}
