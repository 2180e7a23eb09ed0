//! Cache mounts on disk: what `RUN --mount=type=cache` keeps between builds.
//!
//! **Holds.** The files of an instance are used, made, replaced and removed only under its lock ([`MountLock`]). Locks are
//! flocks: they end with their process.
//! **On disk.** `mounts/<hash of the id>/<n>/{id,lock,data}`. All share instance 0; `sharing=private` takes the first
//! instance that is free (M-7).
//! **Order.** A command locks several mounts in the order of their directories, so that no two commands wait for each other.
//! `id` is written before `data`. `lock` stays when `data` is removed: another process may be waiting for it.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::digest::Sha256;
use crate::base::fs::{self, FsError};
use crate::base::lock::{Patience, taken};
use crate::base::publish;
use crate::base::time::Timestamp;
use crate::base::unique;

use super::Error;
use super::directory::Store;
use super::usage::usage;

/// Hexadecimal digits of the hash in a directory's name.
const NAME: usize = 32;
/// `kiln prune` and others lock an instance only to see whether it is in use: a private mount waits that long for them.
const LOOKING: Duration = Duration::from_millis(20);

/// One instance of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountInstance {
    /// The mount's id, which is any text.
    pub id: String,
    /// `mounts/<hash>/<n>`.
    pub path: PathBuf,
    /// Counted from 0.
    pub number: u64,
    /// Disk usage of its files, in bytes.
    pub bytes: u64,
    /// When it was last mounted.
    pub used: Timestamp,
    /// It is mounted right now.
    pub busy: bool,
}

/// Who may use an instance at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountSharing {
    /// Everybody else who shares it.
    Shared,
    /// Nobody: others wait.
    Locked,
    /// Nobody: others take another instance.
    Private,
}

/// Mode and owner of a mount's root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountRoot {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The lock of one instance.
#[derive(Debug)]
pub(crate) struct MountLock {
    path: PathBuf,
    /// Holds the flock.
    _file: File,
}

impl Store {
    /// `mounts/<hash>`: an id is any text, its hash is the directory's name (M-6, S-21).
    pub(crate) fn mount_dir(&self, id: &str) -> PathBuf {
        self.mounts_dir().join(mount_name(id))
    }

    /// All instances that hold something, by id.
    pub(crate) fn mount_instances(&self) -> Result<Vec<MountInstance>, Error> {
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

    /// Waits until the mount `id` can be used as `sharing` says. Its instance is made if it is not there.
    pub(crate) fn lock_mount(
        &self,
        id: &str,
        sharing: MountSharing,
        patience: &mut Patience<'_>,
    ) -> Result<MountLock, Error> {
        let dir = self.mount_dir(id);
        let mut number = 0u64;
        loop {
            let path = dir.join(number.to_string());
            fs::ensure_dir(&path)?;
            let lock = path.join("lock");
            let file = fs::open_lock(&lock)?;
            let free = match sharing {
                MountSharing::Shared => patience.wait(&lock, || taken(file.try_lock_shared(), &lock)).map(Some),
                MountSharing::Locked => patience.wait(&lock, || taken(file.try_lock(), &lock)).map(Some),
                MountSharing::Private => free_soon(&file, &lock),
            };
            if free?.is_some() {
                return Ok(MountLock { path, _file: file });
            }
            number += 1;
        }
    }

    /// Locks an instance, unless it is mounted: then `None`.
    pub(crate) fn try_lock_mount(&self, instance: &MountInstance) -> Result<Option<MountLock>, Error> {
        self.try_lock_instance(&instance.path)
    }

    /// Locks the instance that all share, unless it is mounted: then `None`.
    pub(crate) fn try_lock_shared_mount(&self, id: &str) -> Result<Option<MountLock>, Error> {
        let path = self.mount_dir(id).join("0");
        if path.is_dir() { self.try_lock_instance(&path) } else { Ok(None) }
    }

    /// [`Store::try_lock_mount`] for the instance in the directory `path`.
    pub(super) fn try_lock_instance(&self, path: &Path) -> Result<Option<MountLock>, Error> {
        let lock = path.join("lock");
        let file = fs::open_lock(&lock)?;
        Ok(taken(file.try_lock(), &lock)?.map(|()| MountLock { path: path.to_owned(), _file: file }))
    }
}

impl MountLock {
    /// Where the files are; it need not exist.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Where the files are, for a command that is about to use them. If there are none, a directory with the mode and owner
    /// `root` is made, of what `fill` writes into it (M-8, M-9).
    pub(crate) fn data_for_use<E: From<Error>>(
        &self,
        id: &str,
        root: MountRoot,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let failed = |e: FsError| E::from(Error::from(e));
        let data = self.data();
        if !data.exists() {
            publish::atomic(&self.path.join("id"), id.as_bytes(), 0o600).map_err(failed)?;
            let draft = self.path.join(unique::name("data-"));
            fs::create_dir(&draft, 0o700).map_err(failed)?;
            fill(&draft)?;
            let owned = chown(&draft, Some(root.uid), Some(root.gid))
                .and_then(|()| std::fs::set_permissions(&draft, Permissions::from_mode(root.mode)));
            owned.map_err(|e| failed(FsError::new("set mode and owner of", &draft, e)))?;
            // Of two who share the lock and find nothing, the first to rename makes it.
            if !fs::rename_new(&draft, &data).map_err(failed)? {
                fs::remove_tree(&draft).map_err(failed)?;
            }
        }
        fs::touch(&self.path.join("lock"));
        Ok(data)
    }

    /// Removes the directory for the files if there are none, so that the next command fills it anew.
    pub(crate) fn remove_empty(&self) {
        // One that has files stays.
        let _ = std::fs::remove_dir(self.data());
    }

    /// Replaces the files by `made`, a directory on the same file system. The old ones go to `old`, which must not exist.
    /// Ok: the instance holds what `made` held.
    pub(crate) fn replace(&self, id: &str, made: &Path, old: &Path) -> Result<(), Error> {
        publish::atomic(&self.path.join("id"), id.as_bytes(), 0o600)?;
        self.take(old)?;
        Ok(fs::rename(made, &self.data())?)
    }

    /// Moves the files to `to`, which must not exist. Ok: the instance is empty; the next build makes it anew.
    pub(crate) fn take(&self, to: &Path) -> Result<(), Error> {
        match fs::rename(&self.data(), to) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }
}

/// The directory's name for an id.
pub(crate) fn mount_name(id: &str) -> String {
    let mut name = Sha256::of(id.as_bytes()).hex();
    name.truncate(NAME);
    name
}

/// Locks `file`, which is at `path`. `None`: it is in use for longer than a look takes.
fn free_soon(file: &File, path: &Path) -> Result<Option<()>, FsError> {
    match taken(file.try_lock(), path)? {
        Some(()) => Ok(Some(())),
        None => {
            std::thread::sleep(LOOKING);
            taken(file.try_lock(), path)
        }
    }
}

/// `None`: it holds nothing.
fn instance(path: PathBuf, number: u64, id: String) -> Result<Option<MountInstance>, Error> {
    let data = path.join("data");
    if !data.is_dir() {
        return Ok(None);
    }
    let bytes = usage(&data)?;
    // Mounting touches the lock.
    let time = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.mtime()).unwrap_or(0);
    let used = Timestamp::from_secs(time(&data).max(time(&path.join("lock"))));
    let lock = fs::open(&path.join("lock"));
    let busy = lock.is_ok_and(|lock| lock.try_lock().is_err());
    Ok(Some(MountInstance { id, path, number, bytes, used, busy }))
}
