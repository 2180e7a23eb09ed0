//! File-system calls on kiln's own paths (store, outputs). Every error names operation and path.
//!
//! **Not here.** Paths that others control (contexts, roots): [`super::rooted`].

#![expect(clippy::disallowed_methods, reason = "the one place that wraps std::fs for kiln's own paths")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::time::Timestamp;

/// A failed operation on a path: `cannot open /x/y: permission denied`.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct FsError {
    /// A lower-case verb: `open`, `create`, `rename`.
    pub operation: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl FsError {
    /// An error of `operation` on `path`.
    pub fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.to_owned(), source: source.into() }
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Opens `path` for reading, close-on-exec.
pub(crate) fn open(path: &Path) -> Result<File, FsError> {
    File::open(path).map_err(|e| FsError::new("open", path, e))
}

/// The content of a file; `None` if it does not exist.
pub(crate) fn read_opt(path: &Path) -> Result<Option<Vec<u8>>, FsError> {
    match content(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FsError::new("read", path, e)),
    }
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FsError> {
    content(path).map_err(|e| FsError::new("read", path, e))
}

/// Like `std::fs::read`, for files that are nearly always small: it does not ask for their length first.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    // Through `take`, because a file of its own asks for the length again.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates the directory `path` and its parents with mode 0700. Ok: it exists.
pub(crate) fn ensure_dir(path: &Path) -> Result<(), FsError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| FsError::new("create directory", path, e))
}

/// [`ensure_dir`] that first removes a file in its place, left there by damage.
pub(crate) fn make_dir(path: &Path) -> Result<(), FsError> {
    for place in [path.parent(), Some(path)].into_iter().flatten() {
        if std::fs::symlink_metadata(place).is_ok_and(|there| there.is_file()) {
            remove_file(place)?;
        }
    }
    ensure_dir(path)
}

/// Removes a directory that damage put where a file belongs. Ok: there is none.
pub(crate) fn clear(path: &Path) -> Result<(), FsError> {
    match std::fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        true => remove_tree(path),
        false => Ok(()),
    }
}

/// The content of a file that only saves work; `None` if it cannot be read, for any reason.
pub(crate) fn read_spare(path: &Path) -> Option<Vec<u8>> {
    content(path).ok()
}

/// Creates one directory with `mode` (umask applies); it must not exist yet.
pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    std::fs::DirBuilder::new().mode(mode).create(path).map_err(|e| FsError::new("create directory", path, e))
}

/// Creates a file that must not exist yet, mode 0600.
pub(crate) fn create_new(path: &Path) -> Result<File, FsError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| FsError::new("create", path, e))
}

/// Opens or creates a lock file, mode 0600. Its content has no meaning, so damage is repaired.
pub(crate) fn open_lock(path: &Path) -> Result<File, FsError> {
    use std::os::unix::fs::PermissionsExt;
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let failed = |e| FsError::new("open", path, e);
    match open() {
        Err(e) if e.kind() == io::ErrorKind::IsADirectory && clear(path).is_ok() => open().map_err(failed),
        Err(e)
            if e.kind() == io::ErrorKind::PermissionDenied
                && std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).is_ok() =>
        {
            open().map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// Moves `from` to `to`, replacing a file there.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to).map_err(|e| FsError::new("rename", to, e))
}

/// Moves `from` to `to` unless `to` exists, even as an empty directory. Ok(false): it exists.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<bool, FsError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(e) => Err(FsError::new("rename", to, e)),
    }
}

/// Gives the directory `to` the mode, owner, times and attributes of the directory `from`.
pub(crate) fn copy_metadata(from: &Path, to: &Path) -> Result<(), FsError> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let meta = std::fs::symlink_metadata(from).map_err(|e| FsError::new("stat", from, e))?;
    let failed = |e: io::Error| FsError::new("copy mode, owner and times to", to, e);
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(failed)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(failed)?;
    let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::empty()).map_err(|e| failed(e.into()))
}

/// The modification time of `path`.
pub(crate) fn modified(path: &Path) -> Result<Timestamp, FsError> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).map_err(|e| FsError::new("stat", path, e))?;
    Ok(Timestamp { secs: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0) })
}

/// The status change time of `path`; `None` if it does not exist.
pub(crate) fn changed(path: &Path) -> Result<Option<Timestamp>, FsError> {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(Timestamp { secs: meta.ctime(), nanos: u32::try_from(meta.ctime_nsec()).unwrap_or(0) })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FsError::new("stat", path, e)),
    }
}

/// Sets the status change time ([`changed`]) to now. Best effort.
pub(crate) fn mark(path: &Path) {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        let _ = std::fs::set_permissions(path, meta.permissions());
    }
}

/// Sets the times of `path` to now, so that pruning keeps it. Best effort: a read-only store cannot be pruned either.
pub(crate) fn touch(path: &Path) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ =
        rustix::fs::utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
}

/// The bytes that this user may still write to the file system of `path`, if it tells.
pub(crate) fn available(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes a file. Ok: it does not exist.
pub(crate) fn remove_file(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FsError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// [`remove_file`] that also removes a directory in the file's place, left there by damage.
pub(crate) fn remove(path: &Path) -> Result<(), FsError> {
    clear(path)?;
    remove_file(path)
}

/// Removes a directory and its content without following links, also where modes deny entry. Ok: it does not exist.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FsError> {
    let removed = std::fs::remove_dir_all(path);
    match removed {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            match std::fs::remove_dir_all(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FsError::new("remove", path, e)),
                _ => Ok(()),
            }
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FsError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// Gives the owner all rights on every directory below `path`. Failures show when it is removed.
fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        // Before it is listed, which a mode may deny.
        let _ = std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700));
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
}

/// The names in a directory, sorted; empty if it does not exist.
pub(crate) fn list(path: &Path) -> Result<Vec<std::ffi::OsString>, FsError> {
    let mut names = Vec::new();
    match std::fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                names.push(entry.map_err(|e| FsError::new("list", path, e))?.file_name());
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(FsError::new("list", path, e)),
    }
    names.sort();
    Ok(names)
}
