//! Damage that a check of stored files finds.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::fs;
use super::publish;
use super::time::Timestamp;

/// A draft that is older than this, in seconds, was left by a process that was killed.
const ABANDONED: i64 = 3600;

/// A damaged file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// Which file it was: another one may have its place by now.
    inode: Option<u64>,
}

impl Damage {
    /// Damage of what is at `path` now.
    pub(crate) fn new(path: &Path, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: why.into(), inode: inode(path) }
    }

    /// Whether the damaged file is still in its place.
    pub(crate) fn is_there(&self) -> bool {
        self.inode.is_some() && inode(&self.path) == self.inode
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

/// What was read, and what was damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damage, in no order.
    pub damage: Vec<Damage>,
}

impl Checked {
    /// One file at `path` of `bytes` bytes; `why` says what is wrong with it.
    pub(crate) fn file(path: &Path, bytes: u64, why: Option<String>) -> Self {
        Self { files: 1, bytes, damage: why.map(|why| Damage::new(path, why)).into_iter().collect() }
    }

    /// Both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.files += other.files;
        self.bytes += other.bytes;
        self.damage.extend(other.damage);
        self
    }

    /// Reads the file at `path`; `judge` says what is wrong with its content. One that is gone meanwhile is no file.
    pub(crate) fn read(path: &Path, judge: impl FnOnce(Vec<u8>) -> Option<String>) -> Self {
        match fs::read_opt(path) {
            Ok(None) => Self::default(),
            Ok(Some(content)) => Self::file(path, content.len() as u64, judge(content)),
            Err(e) => Self::file(path, 0, Some(e.source.to_string())),
        }
    }

    /// A draft at `path`: no file yet, or one that a killed process left. `None`: its name is no draft's.
    pub(crate) fn draft(path: &Path) -> Option<Self> {
        publish::is_draft(path).then(|| {
            let old = fs::modified(path).is_ok_and(|made| made.secs + ABANDONED < Timestamp::now().secs);
            match old {
                true => Self::file(path, 0, Some("left by a process that was killed".to_owned())),
                false => Self::default(),
            }
        })
    }
}

impl FromIterator<Checked> for Checked {
    fn from_iter<I: IntoIterator<Item = Checked>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), Self::and)
    }
}
