//! Disk usage of directories.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::base::fs::FsError;

/// Disk usage of a directory with everything below it, in bytes. A file with several names counts once; a missing directory
/// counts 0.
pub(super) fn usage(dir: &Path) -> Result<u64, FsError> {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    if std::fs::symlink_metadata(dir).is_err() {
        return Ok(0);
    }
    for entry in walkdir::WalkDir::new(dir).follow_links(false) {
        let failed = |e: walkdir::Error| {
            let path = e.path().unwrap_or(dir).to_owned();
            FsError::new("stat", &path, e.into_io_error().unwrap_or_else(|| std::io::ErrorKind::Other.into()))
        };
        let meta = match entry.and_then(|e| e.metadata()) {
            // Builds may remove files meanwhile.
            Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => continue,
            other => other.map_err(failed)?,
        };
        if meta.is_dir() || meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino())) {
            bytes += meta.blocks() * 512;
        }
    }
    Ok(bytes)
}
