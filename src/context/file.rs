//! What is known of one file of a source tree.

use std::collections::BTreeMap;

use crate::base::digest::Sha256;
use crate::base::time::Timestamp;

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What kind of thing a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
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
    pub kind: FileKind,
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
        self.kind == FileKind::Dir
    }

    /// It is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }

    /// It is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == FileKind::Symlink
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
