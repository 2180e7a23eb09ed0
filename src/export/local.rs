//! Writing an image's files into a directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::base::fs::FsError;
use crate::base::sparse;
use crate::base::time::Timestamp;
use crate::base::unique;
use crate::layer::{EntryKind, MergedTree, RelPath};

use super::error::RootfsError;
use super::links::Links;
use super::rootfs::Rootfs;

/// What was left out of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Devices.
    pub devices: Vec<String>,
    /// How many files lost their setuid or setgid bit.
    pub setuid: usize,
}

const SETUID: u32 = 0o6000;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Rootfs {
    /// Writes everything into `dest`, which is made if it is missing. Ok: `dest` has all files of the image. Existing files of
    /// the same name are replaced, others stay. Existing symlinks are replaced, never followed.
    pub(crate) fn write_dir(&self, dest: &Path) -> Result<Skipped, RootfsError> {
        std::fs::create_dir_all(dest).map_err(|e| FsError::new("create directory", dest, e))?;
        let open = rustix::fs::open(dest, DIRECTORY - OFlags::NOFOLLOW, Mode::empty());
        let root = open.map_err(|e| FsError::new("open", dest, e))?;
        let mut tree = TreeWriter { dest, merged: &self.merged, stack: vec![(RelPath::root(), root)] };
        let mut skipped = Skipped::default();
        let mut links = Links::default();
        let mut dirs = Vec::new();
        for found in self.merged.iter().filter(|found| !found.path().is_root()) {
            let (path, meta) = (found.path(), found.meta());
            let mode = Mode::from_raw_mode(meta.mode & 0o7777 & !SETUID);
            if let Some(first) = links.first(&found) {
                tree.link(path, first)?;
                continue;
            }
            match found.kind() {
                EntryKind::Dir => {
                    tree.dir(path)?;
                    dirs.push((path, mode, meta.mtime));
                    continue;
                }
                EntryKind::File { size, .. } => {
                    let from = self.content(&found)?;
                    tree.file(path, &from, *size, mode)?;
                    skipped.setuid += usize::from(meta.mode & SETUID != 0);
                }
                EntryKind::Symlink { target } => tree.symlink(path, target)?,
                EntryKind::Fifo => tree.fifo(path, mode)?,
                EntryKind::Char { .. } | EntryKind::Block { .. } => {
                    skipped.devices.push(path.to_string());
                    continue;
                }
                EntryKind::Hardlink { .. } | EntryKind::Whiteout | EntryKind::Opaque => continue,
            }
            tree.time(path, meta.mtime)?;
        }
        // Last: writing into a directory changes its time, and needs write permission.
        for (path, mode, mtime) in dirs.into_iter().rev() {
            tree.finish_dir(path, mode, mtime)?;
        }
        Ok(skipped)
    }
}

/// Writes entries in order, with the directories on the path of the last one open.
struct TreeWriter<'a> {
    dest: &'a Path,
    /// The files of the image.
    merged: &'a MergedTree,
    stack: Vec<(RelPath, OwnedFd)>,
}

impl TreeWriter<'_> {
    fn shown(&self, path: &RelPath) -> PathBuf {
        self.dest.join(path.as_os_str())
    }

    fn wrap(&self, operation: &'static str, path: &RelPath) -> impl Fn(Errno) -> RootfsError + use<> {
        let path = self.shown(path);
        move |e| FsError::new(operation, &path, e).into()
    }

    /// The directory that `path` is in, open. Entries come in order: it is on the path of the last one, or below.
    fn parent(&mut self, path: &RelPath) -> Result<&OwnedFd, RootfsError> {
        let parent = path.parent().unwrap_or_default();
        while self.stack.len() > 1 && self.stack.last().is_some_and(|(dir, _)| !parent.is_within(dir)) {
            self.stack.pop();
        }
        let mut todo = Vec::new();
        let mut at = parent;
        while self.stack.last().is_some_and(|(dir, _)| *dir != at) {
            todo.push(at.clone());
            at = at.parent().unwrap_or_default();
        }
        for dir in todo.into_iter().rev() {
            let above = self.stack.last().map(|(_, fd)| fd.as_fd());
            let above = above.unwrap_or(rustix::fs::CWD);
            let fd = rustix::fs::openat(above, OsStr::from_bytes(dir.name()), DIRECTORY, Mode::empty());
            let fd = fd.map_err(self.wrap("open", &dir))?;
            self.stack.push((dir, fd));
        }
        Ok(&self.stack.last().expect("the root of the walk is never left").1)
    }

    fn dir(&mut self, path: &RelPath) -> Result<(), RootfsError> {
        let (make, remove) = (self.wrap("create directory", path), self.wrap("replace", path));
        let name = OsStr::from_bytes(path.name());
        let above = self.parent(path)?;
        match rustix::fs::mkdirat(above, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW).map_err(&make)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    // An earlier export may have left it without permissions; they are set again at the end.
                    let open = Mode::from_raw_mode(stat.st_mode) | Mode::RWXU;
                    return rustix::fs::chmodat(above, name, open, AtFlags::empty()).map_err(make);
                }
                rustix::fs::unlinkat(above, name, AtFlags::empty()).map_err(remove)?;
                rustix::fs::mkdirat(above, name, Mode::RWXU).map_err(make)
            }
            Err(e) => Err(make(e)),
        }
    }

    /// Makes something under a temporary name with `make`, then renames it to `path`.
    fn put(
        &mut self,
        path: &RelPath,
        mut make: impl FnMut(&OwnedFd, &OsStr) -> Result<(), io::Error>,
    ) -> Result<(), RootfsError> {
        let shown = self.shown(path);
        let failed = |e| RootfsError::from(FsError::new("create", &shown, e));
        let temporary = loop {
            let temporary = OsString::from(unique::name(".kiln-"));
            // No file of the image or of the directory may have this name (N-10).
            let beside = path.parent().unwrap_or_default().join(temporary.as_bytes());
            if self.merged.get(&beside).is_none() {
                match make(self.parent(path)?, &temporary) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    made => break made.map(|()| temporary).map_err(failed)?,
                }
            }
        };
        let name = OsStr::from_bytes(path.name());
        let above = self.parent(path)?;
        let made = match rustix::fs::renameat(above, &temporary, above, name) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => Err(RootfsError::Occupied { path: shown.clone() }),
            Err(e) => Err(failed(e.into())),
        };
        // If both were names of one file, the rename did nothing.
        let _ = rustix::fs::unlinkat(above, &temporary, AtFlags::empty());
        made
    }

    fn file(&mut self, path: &RelPath, from: &File, size: u64, mode: Mode) -> Result<(), RootfsError> {
        self.put(path, |above, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = File::from(rustix::fs::openat(above, name, flags, Mode::RUSR | Mode::WUSR)?);
            sparse::copy(from, &to, size)?;
            Ok(rustix::fs::fchmod(&to, mode)?)
        })
    }

    fn symlink(&mut self, path: &RelPath, target: &[u8]) -> Result<(), RootfsError> {
        self.put(path, |above, name| Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), above, name)?))
    }

    fn fifo(&mut self, path: &RelPath, mode: Mode) -> Result<(), RootfsError> {
        self.put(path, |above, name| Ok(rustix::fs::mknodat(above, name, FileType::Fifo, mode, 0)?))
    }

    fn link(&mut self, path: &RelPath, first: &RelPath) -> Result<(), RootfsError> {
        let root = self.stack[0].1.try_clone().map_err(|e| FsError::new("open", self.dest, e))?;
        let shown = self.shown(path);
        // This export made its directory, so no component is a symlink; opened name by name all the same.
        let mut dir = root;
        let above = first.parent().unwrap_or_default();
        for name in above.components() {
            let next = rustix::fs::openat(&dir, OsStr::from_bytes(name), DIRECTORY, Mode::empty());
            dir = next.map_err(|e| FsError::new("open", &shown, e))?;
        }
        let source = OsStr::from_bytes(first.name());
        self.put(path, |above, name| Ok(rustix::fs::linkat(&dir, source, above, name, AtFlags::empty())?))
    }

    fn time(&mut self, path: &RelPath, mtime: Timestamp) -> Result<(), RootfsError> {
        let failed = self.wrap("set time of", path);
        let above = self.parent(path)?;
        let name = OsStr::from_bytes(path.name());
        match rustix::fs::utimensat(above, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW) {
            // The file system cannot represent the time (S-43).
            Err(Errno::INVAL | Errno::RANGE | Errno::OVERFLOW) | Ok(()) => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    /// Sets time and mode of a directory that is complete.
    fn finish_dir(&mut self, path: &RelPath, mode: Mode, mtime: Timestamp) -> Result<(), RootfsError> {
        self.stack.truncate(1);
        self.time(path, mtime)?;
        let failed = self.wrap("set mode of", path);
        let above = self.parent(path)?;
        rustix::fs::chmodat(above, OsStr::from_bytes(path.name()), mode, AtFlags::empty()).map_err(failed)
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: time, last_modification: time }
}
