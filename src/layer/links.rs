//! Hard links in a copied root, as overlayfs treats them.
//!
//! **Holds.** When a command changes, links or moves one name of a file of a lower layer, overlayfs copies the file up under
//! that name; the other names stay with the lower file, whose link count does not change. In a copy all names are one file:
//! right before a command touches one of them, [`Links`] does to the copy what overlayfs would do. Overlayfs also does not
//! move directories of lower layers.
//! **On disk.** Further names of such files, in a directory beside the copy: they only keep the link count.
//! **Not here.** What a command is about to do: `sandbox`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use crate::base::rooted::Root;
use crate::base::unique;

use super::disk;
use super::entry::{EntryKind, RelPath};
use super::error::Error;
use super::fill::{Filler, copy};
use super::merged::{MergedEntry, MergedTree};
use super::place;
use super::walk::Baseline;

/// A file of one layer: the layer's number and the file's first name there.
type Inode<'a> = (usize, &'a RelPath);

/// A file as the file system knows it: its device's major and minor number, its own number, and when it was made, in
/// seconds and nanoseconds, if that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnDisk {
    /// Major and minor number.
    pub device: (u32, u32),
    /// Number on the device.
    pub inode: u64,
    /// Birth time.
    pub born: Option<(i64, u32)>,
}

/// A copy of layers that a command runs on.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    root: Root,
    beside: PathBuf,
    lower: &'a MergedTree,
    before: &'a Baseline,
    /// Visible names of files that have, or had, several names.
    several: BTreeSet<&'a RelPath>,
    /// Files with a later birth time were created by the command.
    since: Option<(i64, u32)>,
}

impl<'a> Links<'a> {
    /// The copy of `lower` at `root`, with the identities `before`; the directory `beside` is on the same file system.
    pub(crate) fn new(root: &Path, beside: &Path, lower: &'a MergedTree, before: &'a Baseline) -> Result<Self, Error> {
        let counts = counts(lower);
        let mut several = BTreeSet::new();
        if !counts.is_empty() {
            let more =
                |f: &MergedEntry<'_>| f.layer.is_some_and(|layer| counts.contains_key(&(layer, &f.inode().path)));
            several.extend(lower.iter().filter(more).map(|found| found.path()));
        }
        let top = RelPath::root();
        let fail = |e| Error::system("open", &top, e);
        let since = beside.join("since");
        crate::base::fs::create_dir(&since, 0o700).map_err(|e| Error::system("create", &top, e.source))?;
        Ok(Self {
            root: Root::open(root).map_err(fail)?,
            since: born(Root::open(&since).map_err(fail)?.as_fd()),
            beside: beside.to_owned(),
            lower,
            before,
            several,
        })
    }

    /// Whether no file of the copy has several names.
    pub(crate) fn is_empty(&self) -> bool {
        self.several.is_empty()
    }

    /// Prepares for a change, link or move of `file` at `path`. Ok(true): `path` now names a file of its own with the same
    /// content.
    pub(crate) fn copy_up(&self, path: &RelPath, file: &OnDisk) -> Result<bool, Error> {
        let Some(found) = self.shared(path, file) else { return Ok(false) };
        let dir = self.keep_name(path, file)?;
        let Some(dir) = dir else { return Ok(false) };
        let name = unique::name("part-");
        let draft = RelPath::root().join(name.as_bytes());
        let mut filler = Filler::new(&self.beside, None)?;
        match found.kind() {
            EntryKind::File { size, .. } => {
                let from = disk::open_file(self.root.as_fd(), path);
                let from = File::from(from.map_err(|source| Error::Read { path: path.clone(), source })?);
                filler.file(&draft, found.meta(), false, |to| copy(&from, to, *size, path))?;
            }
            other => filler.put(&draft, other, found.meta(), false)?,
        }
        let fail = |e: Errno| Error::system("rename", path, e.into());
        let beside = Root::open(&self.beside).map_err(|e| Error::system("open", &draft, e))?;
        let times = rustix::fs::statx(&dir, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(fail)?;
        match rustix::fs::renameat(beside.as_fd(), &name, &dir, OsStr::from_bytes(path.name())) {
            // A device that could not be made here.
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(fail)?,
        }
        let mtime = disk::time(times.stx_mtime.tv_sec, times.stx_mtime.tv_nsec);
        place::set_file_mtime(dir.as_fd(), mtime).map_err(|e| Error::system("set time of", path, e))?;
        Ok(true)
    }

    /// Prepares for the removal of the name `path` of `file`. Ok: the link count will not change.
    pub(crate) fn keep_count(&self, path: &RelPath, file: &OnDisk) -> Result<(), Error> {
        match self.shared(path, file) {
            Some(_) => self.keep_name(path, file).map(drop),
            None => Ok(()),
        }
    }

    /// Whether a layer below has this directory at `path`.
    pub(crate) fn is_below(&self, path: &RelPath, dir: &OnDisk) -> bool {
        // Inode numbers of removed directories are reused.
        let younger = dir.born.zip(self.since).is_some_and(|(born, since)| born > since);
        self.is_as_before(path, dir) && !younger
    }

    fn shared(&self, path: &RelPath, file: &OnDisk) -> Option<MergedEntry<'_>> {
        let shared = self.several.contains(path) && self.is_as_before(path, file);
        shared.then(|| self.lower.get(path)).flatten()
    }

    fn is_as_before(&self, path: &RelPath, file: &OnDisk) -> bool {
        self.before.identity(path).is_some_and(|was| (was.dev, was.ino) == (file.device, file.inode))
    }

    /// Gives the file one more name in `beside`. Returns the directory of `path`; `None`: the file is not there any more.
    fn keep_name(&self, path: &RelPath, file: &OnDisk) -> Result<Option<std::os::fd::OwnedFd>, Error> {
        let fail = |e| Error::system("open", path, e);
        let Ok(dir) = disk::open_dir_at(self.root.as_fd(), &path.parent().unwrap_or_default()) else {
            return Ok(None);
        };
        match disk::identify(dir.as_fd(), OsStr::from_bytes(path.name())) {
            Ok(is) if (is.dev, is.ino) == (file.device, file.inode) => {}
            _ => return Ok(None),
        }
        let beside = Root::open(&self.beside).map_err(fail)?;
        hold(dir.as_fd(), path, &beside, &unique::name("part-"))?;
        Ok(Some(dir))
    }
}

/// How many names each file with several has in its own layer.
pub(super) fn counts(lower: &MergedTree) -> BTreeMap<Inode<'_>, usize> {
    let mut counts = BTreeMap::new();
    for (layer, tree) in lower.layers().iter().enumerate() {
        for entry in tree.entries() {
            if let EntryKind::Hardlink { target } = &entry.kind {
                *counts.entry((layer, target)).or_insert(1) += 1;
            }
        }
    }
    counts
}

/// Gives the file at `path`, which is in `dir`, the name `name` in `beside`.
pub(super) fn hold(dir: BorrowedFd<'_>, path: &RelPath, beside: &Root, name: &str) -> Result<(), Error> {
    match rustix::fs::linkat(dir, OsStr::from_bytes(path.name()), beside.as_fd(), name, AtFlags::empty()) {
        // A device that could not be made here.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::system("link", path, e.into())),
    }
}

fn born(fd: BorrowedFd<'_>) -> Option<(i64, u32)> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let knows = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    knows.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}
