//! Listing of context directories.
//!
//! **Holds.** A directory is opened by its path below the context's root without following any symlink, and its entries are
//! read through its descriptor: a directory that is replaced by a link is an error, not a way out (S-90). Each thread has one
//! descriptor open, however deep the tree is.
//! **Order.** Names are sorted by bytes: the order of the file system has no effect (C-29).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::error::Error;
use super::file::{FileKind, Inode, Meta, Node};
use super::ignore::{Inherited, Matcher};
use super::path::join;
use crate::base::time::Timestamp;

/// A directory with more names is stat'ed by several threads.
const MANY: usize = 1024;

/// Opens `path` below `root`, following no symlink at all.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let no_tty = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | no_tty;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..128 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// What `name` in `dir` is; a symlink itself.
pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Meta, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let flags = if name.is_empty() { flags | AtFlags::EMPTY_PATH } else { flags };
    rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS).map(|s| meta(&s))
}

fn meta(stat: &Statx) -> Meta {
    let mode = u32::from(stat.stx_mode);
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::Char { major, minor },
        FileType::BlockDevice => FileKind::Block { major, minor },
        _ => FileKind::File,
    };
    let time = |t: rustix::fs::StatxTimestamp| Timestamp { secs: t.tv_sec, nanos: t.tv_nsec };
    Meta {
        kind,
        mode: mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        inode: Some(Inode {
            device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            number: stat.stx_ino,
            links: u64::from(stat.stx_nlink),
        }),
    }
}

/// The names in an open directory, sorted, with the types that the directory gives.
fn names(dir: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// An entry, which is listed unless it is hidden, or a directory that may have listed entries.
struct Listed {
    node: Node,
    hidden: bool,
    /// For a directory that is to be searched: the rules that match it.
    held: Option<Box<[Inherited]>>,
}

/// One rule set of a walk: the ignore file, relative to the root, or an exclusion, relative to where the walk began.
struct Rules<'a> {
    matcher: &'a Matcher,
    /// The length of the path prefix that the rules do not see.
    skip: usize,
}

/// A walk below one directory of a context.
pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    rules: Vec<Rules<'a>>,
    owners: bool,
}

impl<'a> Walk<'a> {
    /// A walk below the root at `root` after `ignore`; `owners` = report who owns files, not 0:0 (C-15).
    pub(super) fn new(root: BorrowedFd<'a>, ignore: &'a Matcher, owners: bool) -> Self {
        let mut walk = Self { root, rules: Vec::new(), owners };
        walk.rule(ignore, 0);
        walk
    }

    fn rule(&mut self, matcher: &'a Matcher, skip: usize) {
        if !matcher.is_empty() {
            self.rules.push(Rules { matcher, skip });
        }
    }

    /// The rules of each set that match directory `dir`.
    fn held(&self, dir: &[u8]) -> Box<[Inherited]> {
        self.rules.iter().map(|rules| rules.matcher.inherited(dir.get(rules.skip..).unwrap_or_default())).collect()
    }

    /// Everything below `top`, paths relative to it; `exclude` is relative to `top` too.
    pub(super) fn below(mut self, top: &[u8], exclude: &[&'a Matcher]) -> Result<Vec<Node>, Error> {
        let skip = if top.is_empty() { 0 } else { top.len() + 1 };
        for matcher in exclude {
            self.rule(matcher, skip);
        }
        let held = self.held(top);
        let mut nodes = self.tree(top, &held)?;
        if skip > 0 {
            for node in &mut nodes {
                node.path.drain(..skip);
            }
        }
        Ok(nodes)
    }

    /// The entries of directory `dir`, by name.
    pub(super) fn children(&self, dir: &[u8]) -> Result<Vec<Node>, Error> {
        let mut nodes = Vec::new();
        for found in self.level(dir, &self.held(dir))? {
            if !found.hidden || self.shows_below(&found)? {
                nodes.push(Node { path: super::path::split(&found.node.path).1.to_vec(), meta: found.node.meta });
            }
        }
        Ok(nodes)
    }

    /// Whether the excluded directory `dir` holds something that a later rule re-includes.
    pub(super) fn shows(&self, dir: &[u8]) -> Result<bool, Error> {
        let held = self.held(dir);
        let may = self.rules.iter().zip(&held).all(|(r, h)| r.matcher.may_keep_below(h, dir));
        Ok(may && !self.tree(dir, &held)?.is_empty())
    }

    /// The topmost excluded paths below `dir`.
    pub(super) fn hidden(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let mut out = Vec::new();
        self.hidden_below(dir, &self.held(dir), &mut out)?;
        Ok(out)
    }

    fn hidden_below(&self, dir: &[u8], held: &[Inherited], out: &mut Vec<Vec<u8>>) -> Result<(), Error> {
        let fd = open(self.root, dir, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Error::io("open", dir, e))?;
        for (name, kind) in names(fd.as_fd()).map_err(|e| Error::io("list", dir, e))? {
            let path = join(dir, &name);
            match self.look(fd.as_fd(), dir, held, &name, kind)? {
                // Excluded, or removed since it was listed.
                None if stat(fd.as_fd(), &name).is_ok() => out.push(path),
                None => {}
                Some(found) if found.hidden && !self.shows_below(&found)? => out.push(path),
                Some(Listed { held: Some(held), .. }) => self.hidden_below(&path, &held, out)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn shows_below(&self, found: &Listed) -> Result<bool, Error> {
        match &found.held {
            Some(held) => Ok(!self.tree(&found.node.path, held)?.is_empty()),
            None => Ok(false),
        }
    }

    fn tree(&self, dir: &[u8], held: &[Inherited]) -> Result<Vec<Node>, Error> {
        let level = self.level(dir, held)?;
        let below = |found: &Listed| match &found.held {
            Some(held) => self.tree(&found.node.path, held),
            None => Ok(Vec::new()),
        };
        let one_by_one = level.iter().filter(|found| found.held.is_some()).take(2).count() < 2;
        let below: Vec<_> = match one_by_one {
            true => level.iter().map(below).collect::<Result<_, _>>()?,
            false => level.par_iter().map(below).collect::<Result<_, _>>()?,
        };
        let mut nodes = Vec::with_capacity(level.len() + below.iter().map(Vec::len).sum::<usize>());
        for (found, below) in level.into_iter().zip(below) {
            // An excluded directory is listed if something in it is.
            if !found.hidden || !below.is_empty() {
                nodes.push(found.node);
            }
            nodes.extend(below);
        }
        Ok(nodes)
    }

    fn level(&self, dir: &[u8], held: &[Inherited]) -> Result<Vec<Listed>, Error> {
        let fd = open(self.root, dir, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Error::io("open", dir, e))?;
        let names = names(fd.as_fd()).map_err(|e| Error::io("list", dir, e))?;
        let look = |(name, kind): &(Vec<u8>, FileType)| self.look(fd.as_fd(), dir, held, name, *kind).transpose();
        match names.len() > MANY {
            false => names.iter().filter_map(look).collect(),
            true => names.par_iter().filter_map(look).collect(),
        }
    }

    /// `None`: excluded with everything below, or removed since it was listed.
    fn look(
        &self,
        fd: BorrowedFd<'_>,
        dir: &[u8],
        held: &[Inherited],
        name: &[u8],
        kind: FileType,
    ) -> Result<Option<Listed>, Error> {
        let path = join(dir, name);
        let hides = |(rules, held): (&Rules<'_>, &Inherited)| rules.matcher.excludes_in(held, &path[rules.skip..]);
        let hidden = self.rules.iter().zip(held).any(hides);
        // Excluded files need not be readable (G-10).
        if hidden && !matches!(kind, FileType::Directory | FileType::Unknown) {
            return Ok(None);
        }
        let mut inside = None;
        if matches!(kind, FileType::Directory | FileType::Unknown) {
            inside = self.inside(&path, held);
            if hidden && inside.is_none() {
                return Ok(None);
            }
        }
        let mut meta = match stat(fd, name) {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("stat", &path, e)),
        };
        if !self.owners {
            (meta.uid, meta.gid) = (0, 0);
        }
        if !meta.is_dir() {
            return Ok((!hidden).then_some(Listed { node: Node { path, meta }, hidden, held: None }));
        }
        let held = inside.or_else(|| self.inside(&path, held));
        Ok(Some(Listed { node: Node { path, meta }, hidden, held }))
    }

    /// The rules inside directory `path`, if it is to be searched: it is not excluded, or something in it may be re-included.
    fn inside(&self, path: &[u8], held: &[Inherited]) -> Option<Box<[Inherited]>> {
        let all = self.rules.iter().zip(held);
        let below: Box<[_]> = all.clone().map(|(rules, held)| rules.matcher.enter(held, &path[rules.skip..])).collect();
        let searched = all.zip(&below).all(|((rules, held), below)| {
            let path = &path[rules.skip..];
            !rules.matcher.excludes_in(held, path) || rules.matcher.may_keep_below(below, path)
        });
        searched.then_some(below)
    }
}
