//! Mount targets that do not exist in the root.
//!
//! **Holds.** A target is created only if a mount needs it: in the stub layer of an overlay, or in a plain root, from
//! which it is removed afterwards if it is still empty. Symlinks are followed as the command would follow them, within
//! the root only (S-3, S-18).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::base::resolve::{self, Last, Target};
use crate::base::rooted::Root;

use super::problem::{Context, Problem, StepResult};
use super::raw;

/// The kind of a mount target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Dir,
    /// A file.
    File,
}

/// The targets of every run.
const USUAL: [(&str, Kind); 5] = [
    ("/proc", Kind::Dir),
    ("/sys", Kind::Dir),
    ("/dev", Kind::Dir),
    ("/etc/resolv.conf", Kind::File),
    ("/etc/hosts", Kind::File),
];

/// Creates the targets of every run in the empty directory `dir`, which can then be the lowest layer of any number of
/// overlays ([`super::Rootfs`]) and saves their stub layers.
pub(crate) fn usual_targets(dir: &Path) -> io::Result<()> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    USUAL.iter().try_for_each(|(path, kind)| make(dir.as_fd(), &components(Path::new(path)), *kind))
}

/// Whether the caller's lowest layer has this target.
pub(super) fn is_usual(target: &Path) -> bool {
    USUAL.iter().any(|(path, _)| target == Path::new(path))
}

/// A file or directory created in a plain root, to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Created {
    /// Path in the root, without links.
    #[serde(with = "raw")]
    path: PathBuf,
    /// The parent's modification time before.
    mtime: (i64, i64),
}

/// The components of an absolute path, with `.` and `..` resolved as text.
pub(super) fn components(path: &Path) -> Vec<OsString> {
    let mut out = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name.to_owned()),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// Creates `path` below `dir`, a directory of kiln's own without symlinks.
pub(super) fn make(dir: BorrowedFd<'_>, path: &[OsString], kind: Kind) -> io::Result<()> {
    let mut at: Option<OwnedFd> = None;
    for (i, name) in path.iter().enumerate() {
        let here = at.as_ref().map_or(dir, |fd| fd.as_fd());
        if i + 1 == path.len() && kind == Kind::File {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(here, name, flags, Mode::from_raw_mode(0o644))?;
            return Ok(());
        }
        match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        if i + 1 < path.len() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = Some(rustix::fs::openat(here, name, flags, Mode::empty())?);
        }
    }
    Ok(())
}

/// The path, with symlinks resolved, that must be created for `target` to exist in `root`; `None` if it exists.
pub(super) fn missing(root: &Root, target: &Path) -> StepResult<Option<Vec<OsString>>> {
    let action = || format!("look up mount target {}", target.display());
    match root.locate(target.as_os_str()) {
        Ok(_) => return Ok(None),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        Err(e) => return Err(Problem::host(action(), &e).requested()),
    }
    let lookup = |path: &[u8]| -> StepResult<Target> {
        let found = match root.locate_nofollow(OsStr::from_bytes(path)) {
            Ok(found) => found,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(Target::Absent),
            Err(e) => return Err(Problem::host(action(), &e).requested()),
        };
        let stat = rustix::fs::fstat(&found).context(action)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            // Below a file, the next lookup fails with the kernel's own error.
            return Ok(Target::Dir);
        }
        let to = rustix::fs::readlinkat(&found, c"", Vec::new()).context(action)?;
        Ok(Target::link(to.as_bytes()))
    };
    let failed = |code| Problem::host(action(), &io::Error::from_raw_os_error(code)).requested();
    match resolve::resolve(b"", target.as_os_str().as_bytes(), Last::Follow, lookup) {
        Ok(path) => Ok(Some(path.split(|&b| b == b'/').map(|name| OsString::from_vec(name.to_vec())).collect())),
        Err(resolve::Error::Lookup(problem)) => Err(problem),
        Err(resolve::Error::Loop) => Err(failed(libc::ELOOP)),
        Err(resolve::Error::NotADirectory(_)) => Err(failed(libc::ENOTDIR)),
    }
}

fn joined(names: &[OsString]) -> OsString {
    names.join(OsStr::new("/"))
}

/// Creates the missing components of `path` (symlinks already resolved) in a root that is written in place.
pub(super) fn create_in_place(root: &Root, path: &[OsString], kind: Kind) -> io::Result<Vec<Created>> {
    let mut created = Vec::new();
    for end in 1..=path.len() {
        let here = joined(&path[..end]);
        let (parent, name) = root.parent(&here)?;
        let before = rustix::fs::statat(parent.as_fd(), c"", AtFlags::EMPTY_PATH)?;
        let mtime = (before.st_mtime, before.st_mtime_nsec as i64);
        let one = [name];
        match rustix::fs::statat(parent.as_fd(), &one[0], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => continue,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        make(parent.as_fd(), &one, if end == path.len() { kind } else { Kind::Dir })?;
        created.push(Created { path: PathBuf::from(here), mtime });
    }
    Ok(created)
}

/// Removes, last first, directories and files that are still empty. Every path is looked up again in the root and its
/// last component is not followed, so a symlink put in its place stays (S-3).
pub(super) fn remove(root: &Root, created: &[Created]) {
    for Created { path, mtime } in created.iter().rev() {
        let Ok((parent, name)) = root.parent(path.as_os_str()) else { continue };
        let Ok(stat) = rustix::fs::statat(parent.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rustix::fs::unlinkat(parent.as_fd(), &name, AtFlags::REMOVEDIR),
            FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(parent.as_fd(), &name, AtFlags::empty()),
            _ => continue,
        };
        // A directory that the command used is not empty, and stays.
        if removed.is_ok() {
            let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
            let back = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1 };
            let times = Timestamps { last_access: keep, last_modification: back };
            let path = parent.open_at(OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
            let _ = path.map(|fd| rustix::fs::futimens(&fd, &times));
        }
    }
}

/// Whether `path` is `of` or below it.
pub(super) fn is_below(path: &[OsString], of: &[OsString]) -> bool {
    path.len() >= of.len() && path[..of.len()] == *of
}

/// Formats a path for a message.
pub(super) fn shown(path: &[OsString]) -> String {
    let mut out = String::new();
    for name in path {
        out.push('/');
        out.push_str(&String::from_utf8_lossy(name.as_bytes()));
    }
    out
}
