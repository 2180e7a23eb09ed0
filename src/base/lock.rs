//! `flock` guards.
//!
//! A lock belongs to an open file description: it ends when the guard is dropped or its process dies, whichever comes
//! first (S-132), so no lock file is ever stale. Children must not inherit the descriptor; every file opened here is
//! close-on-exec.

use std::fs::File;
use std::io;
use std::path::Path;

use super::fs::{self, FsError};

/// Held by any number of processes at once.
#[derive(Debug)]
pub struct Shared {
    _file: File,
}

/// Held by one process, while nobody holds it shared.
#[derive(Debug)]
pub struct Exclusive {
    _file: File,
}

impl Shared {
    /// Waits until the lock at `path` can be shared. The file is created if missing; on a read-only file system it has
    /// to be there.
    pub fn wait(path: &Path) -> Result<Self, FsError> {
        let file = match fs::open_lock(path) {
            Err(e) if e.source.kind() == io::ErrorKind::ReadOnlyFilesystem => fs::open(path).map_err(|_| e)?,
            other => other?,
        };
        file.lock_shared().map_err(|e| FsError::new("lock", path, e))?;
        Ok(Self { _file: file })
    }
}

impl Exclusive {
    /// Waits until the lock at `path` is free. The file is created if missing.
    pub fn wait(path: &Path) -> Result<Self, FsError> {
        let file = fs::open_lock(path)?;
        file.lock().map_err(|e| FsError::new("lock", path, e))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock at `path` if nobody holds it; `None` = somebody does.
    pub fn try_now(path: &Path) -> Result<Option<Self>, FsError> {
        let file = fs::open_lock(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(e)) => Err(FsError::new("lock", path, e)),
        }
    }
}
