//! System calls that create one entry in an open directory; the name is never followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::base::time::Timestamp;

use super::disk::{names, open_dir, proc_path};

/// Removes `name`, with everything below it if it is a directory. Ok: it is not there.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let inner = match open_dir(dir, name) {
        Err(e) if e.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            // A directory of ours that was closed to us.
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            open_dir(dir, name)?
        }
        other => other?,
    };
    for child in names(inner.as_fd())? {
        remove(inner.as_fd(), &child)?;
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// A new, empty regular file open for writing, mode 0600.
pub(super) fn create_file(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
}

pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)
}

pub(super) fn make_node(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    major: u32,
    minor: u32,
) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(dir, name, kind, mode, rustix::fs::makedev(major, minor))
}

pub(super) fn chown(dir: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the mode of something that is known not to be a symlink.
pub(super) fn chmod(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
}

pub(super) fn set_xattr(dir: BorrowedFd<'_>, name: &OsStr, key: &[u8], value: &[u8]) -> Result<(), Errno> {
    let path = proc_path(dir, name);
    rustix::fs::lsetxattr(&path[..], key, value, XattrFlags::empty())
}

/// Ok or not: `name` has no attribute `key` that could be removed.
pub(super) fn drop_xattr(dir: BorrowedFd<'_>, name: &OsStr, key: &[u8]) {
    let _ = rustix::fs::lremovexattr(&proc_path(dir, name)[..], key);
}

pub(super) fn set_mtime(dir: BorrowedFd<'_>, name: &OsStr, mtime: Timestamp) -> io::Result<()> {
    let times = times(mtime);
    match rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // A time the file system cannot hold: its nearest is as good as any (S-43); the tree has the true one.
        Err(Errno::INVAL | Errno::RANGE | Errno::OVERFLOW) => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn set_file_mtime(file: BorrowedFd<'_>, mtime: Timestamp) -> io::Result<()> {
    match rustix::fs::futimens(file, &times(mtime)) {
        Err(Errno::INVAL | Errno::RANGE | Errno::OVERFLOW) => Ok(()),
        other => Ok(other?),
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    let spec = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: spec, last_modification: spec }
}
