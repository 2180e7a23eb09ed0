//! The files a build may read.
//!
//! **Holds.** A [`SourceTree`] is a tree of files that `COPY`, `ADD` and bind mounts read from: a context directory
//! after its ignore rules (`Dir`), or the merged layers of an image or stage (an adapter in `build`). Paths are bytes relative
//! to the tree's root, without a leading, trailing or doubled slash and without `.` and `..`; the empty path is the
//! root. A tree never follows a symlink: `resolve` does, by text, inside the tree (C-10, S-90).
//! **Order.** `select` → selection → `content` digests it for the key → the copy step reads it, checking that
//! what it reads is what was digested (S-93).
//! **Not here.** Where the files go: `build::copy`. What an archive or a git repository holds: it becomes a directory first.

mod error;

use std::collections::BTreeMap;
use std::io::Read;

pub use error::{Error, Excluded, Shown};

use crate::base::digest::Sha256;
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

/// A tree of files that can be selected from. All paths are relative to its root and are taken literally: a symlink
/// in the middle of one is [`Error::Io`] or `None`, never followed.
pub trait SourceTree: Sync {
    /// What `path` names: a symlink itself, not its target. `None` = there is nothing, or an ignore rule hides it.
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error>;

    /// What directory `dir` holds, one level, sorted by name bytes, ignore rules applied.
    fn children(&self, dir: &[u8]) -> Result<Vec<Node>, Error>;

    /// The text of the symlink `path`.
    fn readlink(&self, path: &[u8]) -> Result<Vec<u8>, Error>;

    /// The extended attributes of `path` that belong in an image (C-14).
    fn xattrs(&self, path: &[u8], meta: &Meta) -> Result<Xattrs, Error>;

    /// Opens the regular file `path`. The reader fails with a message naming the file rather than end short or
    /// hand out content that is not what [`SourceTree::digest`] said (S-93).
    fn open(&self, path: &[u8], meta: &Meta) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// SHA-256 of the content of the regular file `path`. Content that is known to be unchanged is not read.
    fn digest(&self, path: &[u8], meta: &Meta) -> Result<Sha256, Error>;

    /// Everything below directory `top`, parents before children, sorted by path components; `top` itself is not
    /// listed. `hidden` says what an exclusion hides (path relative to `top`, and whether it is a directory).
    fn walk(&self, top: &[u8], filter: Option<&dyn Filter>) -> Result<Vec<Node>, Error>;

    /// The ignore rule that hides `path`, if one does (C-2, G-9).
    fn excluded_by(&self, _path: &[u8]) -> Option<Excluded> {
        None
    }
}

/// A rule about which paths below a directory are left out.
pub trait Filter: Sync {
    /// What becomes of `path`, relative to where the walk began.
    fn verdict(&self, path: &[u8], is_dir: bool) -> Verdict;
}

/// What a filter says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Listed.
    Keep,
    /// Not listed, but something below may be; then so is this directory.
    Descend,
    /// Not listed, nor anything below.
    Skip,
}

/// `dir/name`, or `name` if `dir` is the root.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The directory that holds `path`, and its last name; the root's are both empty.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
