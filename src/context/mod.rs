//! The files a build may read.
//!
//! **Holds.** A [`SourceTree`] is a tree of files that `COPY`, `ADD` and bind mounts read from: a context directory
//! after its ignore rules (`Dir`), or the merged layers of an image or stage (an adapter in `copy`). Paths are bytes relative
//! to the tree's root, without a leading, trailing or doubled slash and without `.` and `..`; the empty path is the
//! root. A tree never follows a symlink: `resolve` does, by text, inside the tree (C-10, S-90).
//! **Order.** `select` → selection → `content` digests it for the key → the copy step reads it, checking that
//! what it reads is what was digested (S-93).
//! **Not here.** Where the files go: `copy`. What an archive or a git repository holds: it becomes a directory first.

mod content;
mod dir;
mod error;
mod glob;
mod ignore;
mod path;
mod select;
mod statindex;
mod walk;

pub use content::{Digested, Given, digest, fingerprints};
pub use dir::{Dir, DirOptions};
pub use error::{Error, Excluded, Shown};
pub use ignore::{IgnoreFile, Matcher};
pub use path::{anchor, clean, join, split};
pub use select::{Options, Resolved, Selected, has_wildcards, resolve, select};
use std::collections::BTreeMap;

use crate::base::digest::Sha256;
use crate::base::sparse::SparseRead;
use crate::base::time::Timestamp;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What kind of thing a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe; never opened (S-92).
    Fifo,
    /// A socket; layers cannot hold one (C-11).
    Socket,
    /// A character device.
    Char {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// What is known of a path without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `mode & 0o7777`.
    pub mode: u32,
    /// Owner; 0 for context files (C-15).
    pub uid: u32,
    /// Group; 0 for context files (C-15).
    pub gid: u32,
    /// Bytes of content (files) or of the target (symlinks).
    pub size: u64,
    /// Time of last modification. Never part of a digest (C-29).
    pub mtime: Timestamp,
    /// Two names of one tree with equal, present `inode`s are hard links of each other (C-12).
    pub inode: Option<Inode>,
    /// What else changes when the content does: time of last status change. Zero where a tree cannot change.
    pub ctime: Timestamp,
}

/// A file's identity on its host while the build runs. Never part of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub number: u64,
    /// Number of names.
    pub links: u64,
}

impl Meta {
    /// It is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    /// It is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// It is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == Kind::Symlink
    }
}

/// A path below some directory, and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Relative to the directory that was listed or walked.
    pub path: Vec<u8>,
    /// What is there.
    pub meta: Meta,
}

/// What is inside a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of a regular file's bytes; `None` for everything else.
    pub digest: Option<Sha256>,
    /// A symlink's text; empty for everything else.
    pub link: Vec<u8>,
    /// The extended attributes that belong in an image (C-14).
    pub xattrs: Xattrs,
}

/// A tree of files that can be selected from. All paths are relative to its root and are taken literally: nothing
/// is found below a symlink, because none is followed.
pub trait SourceTree: Sync {
    /// What `path` names: a symlink itself, not its target. `None` = there is nothing, or an ignore rule hides it.
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error>;

    /// What directory `dir` holds, one level, sorted by name bytes, ignore rules applied.
    fn children(&self, dir: &[u8]) -> Result<Vec<Node>, Error>;

    /// What is inside `path`, of which `meta` was said. What is known to be unchanged is not read again.
    fn content(&self, path: &[u8], meta: &Meta) -> Result<Content, Error>;

    /// Opens the regular file `path`. The reader fails with [`Error::Changed`] inside its `io::Error` rather than
    /// end short or end having handed out other bytes than [`SourceTree::content`] was about (S-93).
    fn open(&self, path: &[u8], meta: &Meta) -> Result<Box<dyn SparseRead + Send + '_>, Error>;

    /// Everything below directory `top` that none of `exclude` (patterns relative to `top`) hides; a directory comes
    /// before what it holds, siblings in order of name bytes. `top` itself is not listed.
    fn walk(&self, top: &[u8], exclude: &[&Matcher]) -> Result<Vec<Node>, Error> {
        walk::by_children(self, top, exclude)
    }

    /// The paths below directory `top` that ignore rules hide and that are in no hidden directory: enough to cover up
    /// everything that is hidden. Relative to the root, in order.
    fn hidden(&self, _top: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        Ok(Vec::new())
    }

    /// The ignore rule that hides `path`, if one does (C-2, G-9).
    fn excluded_by(&self, _path: &[u8]) -> Option<Excluded> {
        None
    }
}

#[cfg(test)]
mod tests;
