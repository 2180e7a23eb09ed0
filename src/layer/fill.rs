//! Writing entries to a directory.
//!
//! **Holds.** No symlink is followed, neither in parents nor in the last component. An owner or device that this host cannot
//! express gets a stand-in ([`super::owners`]).
//! **Order.** Owner, then mode (chown clears setuid bits), then attributes (chown clears capabilities), then time;
//! directory modes and times last, deepest first.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::base::sparse;
use crate::base::time::Timestamp;

use super::disk;
use super::entry::{EntryKind, Meta, RelPath};
use super::error::Error;
use super::owners::{self, Mark, Owners};
use super::place;
use super::walk::OverlayAttributes;

/// The metadata of a directory that no entry describes.
fn implied_meta() -> Meta {
    Meta { mode: 0o755, mtime: Timestamp::EPOCH, ..Meta::default() }
}

pub(super) struct Filler {
    root: Rc<OwnedFd>,
    /// The attributes of overlayfs; `None` if the directory is not a layer of an overlay.
    overlay: Option<OverlayAttributes>,
    last: (RelPath, Rc<OwnedFd>),
}

impl Filler {
    /// Fills the empty directory `dest`.
    pub(super) fn new(dest: &Path, overlay: Option<OverlayAttributes>) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dest, flags, rustix::fs::Mode::empty())
            .map_err(|e| Error::system("open", &RelPath::root(), e.into()))?;
        let root = Rc::new(root);
        Ok(Self { last: (RelPath::root(), Rc::clone(&root)), root, overlay })
    }

    /// Creates `path`, unless it is a regular file with content. `replaces`: what the layer put there before is removed first.
    pub(super) fn put(&mut self, path: &RelPath, kind: &EntryKind, meta: &Meta, replaces: bool) -> Result<(), Error> {
        if path.is_root() {
            let root = Rc::clone(&self.root);
            return self.own(path, root.as_fd(), OsStr::new("."), meta);
        }
        let dir = self.parent(path)?;
        let (dir, name) = (dir.as_fd(), OsStr::from_bytes(path.name()));
        if replaces {
            self.clear(path, dir, name)?;
        }
        match kind {
            EntryKind::Dir => {
                match place::make_dir(dir, name) {
                    Ok(()) => {}
                    // The same directory again, or one made for something inside.
                    Err(Errno::EXIST) => place::drop_xattr(dir, name, owners::MARK),
                    Err(e) => return Err(Error::system("create directory", path, e.into())),
                }
                self.own(path, dir, name, meta)?;
                mark(path, dir, name, meta)
            }
            EntryKind::Symlink { target } => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), dir, name)
                    .map_err(|e| Error::system("create", path, e.into()))?;
                self.own(path, dir, name, meta)?;
                place::set_mtime(dir, name, meta.mtime).map_err(|e| Error::system("set time of", path, e))
            }
            EntryKind::Hardlink { target } => self.link(path, dir, name, target),
            EntryKind::Fifo => self.node(path, dir, name, FileType::Fifo, (0, 0), meta),
            EntryKind::Char { major, minor } => {
                self.node(path, dir, name, FileType::CharacterDevice, (*major, *minor), meta)
            }
            EntryKind::Block { major, minor } => {
                self.node(path, dir, name, FileType::BlockDevice, (*major, *minor), meta)
            }
            EntryKind::File { .. } => self.file(path, meta, false, |_| Ok(())),
            EntryKind::Whiteout | EntryKind::Opaque => Ok(()),
        }
    }

    /// Creates a regular file at `path`; `fill` writes its content.
    pub(super) fn file<T>(
        &mut self,
        path: &RelPath,
        meta: &Meta,
        replaces: bool,
        fill: impl FnOnce(&mut File) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let dir = self.parent(path)?;
        let (dir, name) = (dir.as_fd(), OsStr::from_bytes(path.name()));
        if replaces {
            self.clear(path, dir, name)?;
        }
        let fd = place::create_file(dir, name).map_err(|e| Error::system("create", path, e.into()))?;
        let mut file = File::from(fd);
        let made = fill(&mut file)?;
        let fd = file.as_fd();
        describe(path, fd, meta)?;
        for (key, value) in &meta.xattrs {
            attribute(path, rustix::fs::fsetxattr(fd, &key[..], value, XattrFlags::empty()))?;
        }
        if let Some(mark) = owners::mark(meta) {
            attribute(path, rustix::fs::fsetxattr(fd, owners::MARK, &mark, XattrFlags::empty()))?;
        }
        place::set_file_mtime(fd, meta.mtime).map_err(|e| Error::system("set time of", path, e))?;
        Ok(made)
    }

    /// Ok: nothing is at `path`.
    pub(super) fn remove(&mut self, path: &RelPath) -> Result<(), Error> {
        let dir = self.parent(path)?;
        self.clear(path, dir.as_fd(), OsStr::from_bytes(path.name()))
    }

    /// Hides what lower layers have at `path`.
    pub(super) fn whiteout(&mut self, path: &RelPath) -> Result<(), Error> {
        if self.overlay.is_none() {
            return Ok(());
        }
        let dir = self.parent(path)?;
        hide(dir.as_fd(), OsStr::from_bytes(path.name())).map_err(|e| Error::system("create whiteout", path, e.into()))
    }

    /// Hides what lower layers have below `path`, which is created if it is missing.
    pub(super) fn opaque(&mut self, path: &RelPath) -> Result<(), Error> {
        let key: &[u8] = match self.overlay {
            None => return Ok(()),
            Some(OverlayAttributes::Trusted) => b"trusted.overlay.opaque",
            Some(OverlayAttributes::User) => b"user.overlay.opaque",
        };
        let dir = self.dir(path)?;
        rustix::fs::fsetxattr(&*dir, key, b"y", XattrFlags::empty())
            .map_err(|e| Error::system("mark opaque", path, e.into()))
    }

    /// Sets mode and time of a directory after its last entry. It is created if it is missing.
    pub(super) fn seal(&mut self, path: &RelPath, meta: Option<&Meta>) -> Result<(), Error> {
        let fd = self.dir(path)?;
        let plain = implied_meta();
        let meta = meta.unwrap_or(&plain);
        let mode = rustix::fs::Mode::from_raw_mode(mode_on_disk(meta, true));
        rustix::fs::fchmod(&*fd, mode).map_err(|e| Error::system("set mode of", path, e.into()))?;
        place::set_file_mtime(fd.as_fd(), meta.mtime).map_err(|e| Error::system("set time of", path, e))
    }

    fn link(&mut self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr, target: &RelPath) -> Result<(), Error> {
        let target_dir = self.parent(target)?;
        let target_name = OsStr::from_bytes(target.name());
        let flags = rustix::fs::AtFlags::empty();
        match rustix::fs::linkat(target_dir.as_fd(), target_name, dir, name, flags) {
            Ok(()) => Ok(()),
            // Its target is a device that could not be made here.
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::system("link", path, e.into())),
        }
    }

    fn node(
        &mut self,
        path: &RelPath,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        (major, minor): (u32, u32),
        meta: &Meta,
    ) -> Result<(), Error> {
        // Overlayfs takes 0:0 for a whiteout, which an archive expresses otherwise (S-36).
        let made = match (kind, major, minor) {
            (FileType::CharacterDevice, 0, 0) => Err(Errno::PERM),
            _ => place::make_node(dir, name, kind, major, minor),
        };
        match made {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS | Errno::INVAL) => {
                if stand_in(path, dir, name, (kind, major, minor), meta)? {
                    return Ok(());
                }
                // The device is in the tree only. It still hides what lower layers have there.
                return match self.overlay {
                    Some(_) => hide(dir, name).map_err(|e| Error::system("create whiteout", path, e.into())),
                    None => Ok(()),
                };
            }
            Err(e) => return Err(Error::system("create device", path, e.into())),
        }
        self.own(path, dir, name, meta)?;
        place::chmod(dir, name, mode_on_disk(meta, false)).map_err(|e| Error::system("set mode of", path, e))?;
        place::set_mtime(dir, name, meta.mtime).map_err(|e| Error::system("set time of", path, e))
    }

    /// Owner and attributes of anything but a regular file.
    fn own(&self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> Result<(), Error> {
        let here = Owners::here();
        if here.gives {
            let (uid, gid) = (here.uids.on_disk(meta.uid), here.gids.on_disk(meta.gid));
            place::chown(dir, name, uid, gid).map_err(|e| Error::system("set owner of", path, e))?;
        }
        for (key, value) in &meta.xattrs {
            attribute(path, place::set_xattr(dir, name, key, value))?;
        }
        Ok(())
    }

    /// Ok: nothing is at `path`.
    fn clear(&mut self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        self.last = (RelPath::root(), Rc::clone(&self.root));
        place::remove(dir, name).map_err(|e| Error::system("remove", path, e))
    }

    fn parent(&mut self, path: &RelPath) -> Result<Rc<OwnedFd>, Error> {
        self.dir(&path.parent().unwrap_or_default())
    }

    /// The directory at a real path, made with its parents if need be.
    fn dir(&mut self, path: &RelPath) -> Result<Rc<OwnedFd>, Error> {
        if self.last.0 == *path {
            return Ok(Rc::clone(&self.last.1));
        }
        let fd = match disk::open_dir_at(self.root.as_fd(), path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make_dirs(path)?,
            other => other.map_err(|e| Error::system("open", path, e))?,
        };
        self.last = (path.clone(), Rc::new(fd));
        Ok(Rc::clone(&self.last.1))
    }

    fn make_dirs(&self, path: &RelPath) -> Result<OwnedFd, Error> {
        let fail = |e| Error::system("open", path, e);
        let mut at = disk::open_dir(self.root.as_fd(), OsStr::new(".")).map_err(fail)?;
        for name in path.components().map(OsStr::from_bytes) {
            match place::make_dir(at.as_fd(), name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::system("create directory", path, e.into())),
            }
            at = disk::open_dir(at.as_fd(), name).map_err(fail)?;
        }
        Ok(at)
    }
}

fn hide(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    place::make_node(dir, name, FileType::CharacterDevice, 0, 0)
}

/// Owner and mode of an open file.
fn describe(path: &RelPath, fd: BorrowedFd<'_>, meta: &Meta) -> Result<(), Error> {
    owners::give(fd, meta).map_err(|e| Error::system("set owner of", path, e))?;
    let mode = rustix::fs::Mode::from_raw_mode(mode_on_disk(meta, false));
    rustix::fs::fchmod(fd, mode).map_err(|e| Error::system("set mode of", path, e.into()))
}

fn mode_on_disk(meta: &Meta, dir: bool) -> u32 {
    // Without root all files belong to this user, who must be able to read them.
    let needed = if dir { 0o700 } else { 0o600 };
    meta.mode & 0o7777 | if Owners::here().root { 0 } else { needed }
}

/// Notes the true owner of a directory that cannot have it (S-42).
fn mark(path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> Result<(), Error> {
    match owners::mark(meta) {
        Some(mark) => attribute(path, place::set_xattr(dir, name, owners::MARK, &mark)),
        None => Ok(()),
    }
}

/// An empty file in place of a device that cannot be made. False: it could not be marked as one, and is not there.
fn stand_in(
    path: &RelPath,
    dir: BorrowedFd<'_>,
    name: &OsStr,
    (kind, major, minor): (FileType, u32, u32),
    meta: &Meta,
) -> Result<bool, Error> {
    let device = match kind {
        FileType::CharacterDevice => EntryKind::Char { major, minor },
        FileType::BlockDevice => EntryKind::Block { major, minor },
        _ => return Ok(false),
    };
    let mark = Mark { uid: meta.uid, gid: meta.gid, device: Some(device) };
    let fd = place::create_file(dir, name).map_err(|e| Error::system("create", path, e.into()))?;
    match rustix::fs::fsetxattr(&fd, owners::MARK, &mark.to_bytes(), XattrFlags::empty()) {
        Ok(()) => {}
        Err(e) if owners::is_refusal(e) => {
            let gone = rustix::fs::unlinkat(dir, name, AtFlags::empty());
            return gone.map(|()| false).map_err(|e| Error::system("remove", path, e.into()));
        }
        Err(e) => return Err(Error::system("set attribute of", path, e.into())),
    }
    describe(path, fd.as_fd(), meta)?;
    place::set_file_mtime(fd.as_fd(), meta.mtime).map_err(|e| Error::system("set time of", path, e))?;
    Ok(true)
}

/// An attribute that the host or file system does not accept is in the tree only (C-14).
fn attribute(path: &RelPath, set: Result<(), Errno>) -> Result<(), Error> {
    match set {
        Ok(()) => Ok(()),
        Err(e) if owners::is_refusal(e) => Ok(()),
        Err(e) => Err(Error::system("set attribute of", path, e.into())),
    }
}

/// Shared blocks if the file system has them, else a copy inside the kernel, without the holes.
pub(super) fn copy(from: &File, to: &File, size: u64, path: &RelPath) -> Result<(), Error> {
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let got = sparse::copy(from, to, size).map_err(|e| Error::system("copy", path, e))?;
    if got == size { Ok(()) } else { Err(Error::Changed { path: path.clone(), promised: size, got }) }
}
