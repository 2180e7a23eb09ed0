//! `index.json` as last read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use super::names::Names;

/// What the file at a path said, and which file that was.
#[derive(Debug)]
pub(super) struct CachedIndex {
    /// Kept open: no other file gets its inode number.
    _file: File,
    identity: Identity,
    names: Arc<Names>,
}

/// Device, inode, size and modification time. `index.json` is only ever replaced: a file with the same identity has the
/// same content.
type Identity = (u64, u64, u64, i64, i64);

fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

impl CachedIndex {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let identity = identity(&file.metadata()?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let names = Arc::new(Names::read(bytes).map_err(io::Error::other)?);
        Ok(Self { _file: file, identity, names })
    }

    /// Whether `path` still is the file that was read.
    pub(super) fn is_current(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| identity(&meta) == self.identity)
    }

    /// The names in it.
    pub(super) fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }
}
