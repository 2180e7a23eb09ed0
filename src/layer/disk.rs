//! Reading entries from a directory tree, relative to directory fds and never through a symlink.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::base::time::Timestamp;

use super::attributes::Attributes;
use super::entry::{EntryKind, Meta, RelPath};
use super::owners::{self, Mark, Unknown};
use super::xattrs;

/// A file on disk.
pub(super) struct Node {
    /// `None` for a socket, which layers cannot hold.
    pub(super) kind: Option<EntryKind>,
    /// With the true owner, if the file or its mark tells it.
    pub(super) meta: Meta,
    /// The owners that neither the file nor its mark tells.
    pub(super) unknown: Unknown,
    /// The device that its mark names.
    pub(super) device: Option<EntryKind>,
    /// Names of attributes that layers cannot hold, including the mark.
    pub(super) others: Vec<Vec<u8>>,
    /// `trusted.overlay.*` and `user.overlay.*`. Overlayfs uses one of the two, depending on the mount; the others were set by
    /// the command.
    pub(super) overlay: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) identity: Identity,
}

/// The identity of a file: if it is unchanged, so is the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) dev: (u32, u32),
    pub(super) ino: u64,
    pub(super) ctime: Timestamp,
    pub(super) nlink: u32,
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Opens the directory `name` in `dir` for listing.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, FLAGS | OFlags::DIRECTORY, Mode::empty())?)
}

/// Opens the regular file at `path` below `root`, no symlink on the way.
pub(super) fn open_file(root: BorrowedFd<'_>, path: &RelPath) -> io::Result<OwnedFd> {
    // A fifo that was swapped in must not block (S-91).
    let flags = FLAGS | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = rustix::fs::openat2(root, path.as_os_str(), flags, Mode::empty(), resolve)?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    Ok(fd)
}

/// The names in a directory, in byte order.
pub(super) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Looks at `name` in `dir` without following or opening it. `.` is the directory itself.
pub(super) fn look(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Node> {
    let want = StatxFlags::BASIC_STATS;
    let stat = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, want)?;
    let mode = u32::from(stat.stx_mode);
    let kind = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Some(EntryKind::File { size: stat.stx_size, content: None }),
        FileType::Directory => Some(EntryKind::Dir),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes();
            Some(EntryKind::Symlink { target })
        }
        FileType::CharacterDevice => Some(EntryKind::Char { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }),
        FileType::BlockDevice => Some(EntryKind::Block { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }),
        FileType::Fifo => Some(EntryKind::Fifo),
        _ => None,
    };
    let mut meta = Meta {
        // A symlink's mode means nothing and differs between file systems.
        mode: if matches!(kind, Some(EntryKind::Symlink { .. })) { 0o777 } else { mode & 0o7777 },
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        xattrs: Attributes::default(),
    };
    let (mut overlay, mut others, mut mark) = (BTreeMap::new(), Vec::new(), None);
    for (key, value) in read_xattrs(dir, name)? {
        if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
            overlay.insert(key, value);
        } else if key == b"security.capability" {
            meta.xattrs.insert(key, xattrs::portable_capability(&value));
        } else if xattrs::belongs(&key) {
            meta.xattrs.insert(key, value);
        } else {
            if key == owners::MARK {
                mark = Mark::parse(&value);
            }
            others.push(key);
        }
    }
    let unknown = owners::truth(&mut meta, mark.as_ref());
    let device = mark.and_then(|mark| mark.device);
    Ok(Node { kind, meta, unknown, device, others, overlay, identity: identity(&stat) })
}

/// The identity of `name` in `dir`, as [`look`] gives it.
pub(super) fn identify(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Identity> {
    Ok(identity(&rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?))
}

fn identity(stat: &Statx) -> Identity {
    Identity {
        dev: (stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        ctime: time(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        nlink: stat.stx_nlink,
    }
}

pub(super) fn time(secs: i64, nanos: u32) -> Timestamp {
    Timestamp { secs, nanos }
}

/// The path by which calls without an `at` form reach `name` in `dir`, the last component never followed.
pub(super) fn proc_path(dir: BorrowedFd<'_>, name: &OsStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    path
}

fn read_xattrs(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = proc_path(dir.as_fd(), name);
    let mut list = vec![0u8; 512];
    let len = loop {
        match rustix::fs::llistxattr(&path[..], &mut list[..]) {
            Ok(len) => break len,
            Err(Errno::RANGE) => list.resize(rustix::fs::llistxattr_query(&path[..])?.max(list.len() * 2), 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
    };
    let mut found = Vec::new();
    for key in list[..len].split(|&b| b == 0).filter(|k| !k.is_empty()) {
        let mut value = vec![0u8; 256];
        loop {
            match rustix::fs::lgetxattr(&path[..], key, &mut value[..]) {
                Ok(len) => {
                    value.truncate(len);
                    found.push((key.to_vec(), value));
                    break;
                }
                Err(Errno::RANGE) => {
                    let size = rustix::fs::lgetxattr_query(&path[..], key)?;
                    value.resize(size.max(value.len() * 2), 0);
                }
                // Listed but unreadable, or gone: as if it did not exist.
                Err(Errno::NODATA | Errno::ACCESS | Errno::PERM | Errno::NOTSUP) => break,
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(found)
}

/// Opens the directory at `path` below `root`, no symlink on the way.
pub(super) fn open_dir_at(root: BorrowedFd<'_>, path: &RelPath) -> io::Result<OwnedFd> {
    let flags = FLAGS | OFlags::DIRECTORY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let name = if path.is_root() { OsStr::new(".") } else { path.as_os_str() };
    Ok(rustix::fs::openat2(root, name, flags, Mode::empty(), resolve)?)
}
