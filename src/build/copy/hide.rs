//! Ignored files do not appear in bind mounts of a context either.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use super::Error;
use crate::base::fs::{self, FsError};
use crate::context::{self, SourceTree};

/// Puts into the directory `into` an overlay layer that, over the context's directory `dir`, hides everything below
/// `source` that `tree` leaves out. Ok(false): nothing is left out, `into` is as it was.
///
/// Directories in it have the metadata of those they cover.
pub fn hide_ignored(tree: &dyn SourceTree, dir: &Path, source: &str, into: &Path) -> Result<bool, Error> {
    let hidden = tree.hidden(&context::anchor(source.as_bytes()))?;
    if hidden.is_empty() {
        return Ok(false);
    }
    let mut parents = BTreeSet::new();
    for path in &hidden {
        for (at, _) in path.iter().enumerate().filter(|&(_, &b)| b == b'/') {
            if parents.insert(&path[..at]) {
                fs::create_dir(&below(into, &path[..at]), 0o700)?;
            }
        }
        let node = below(into, path);
        rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|e| FsError::new("create whiteout", &node, e))?;
    }
    // Deepest first: making something in a directory changes its time.
    for parent in parents.iter().rev() {
        fs::copy_metadata(&below(dir, parent), &below(into, parent))?;
    }
    fs::copy_metadata(dir, into)?;
    Ok(true)
}

fn below(dir: &Path, path: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(path))
}
