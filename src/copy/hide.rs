//! Hides ignored files in bind mounts of a context.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::Error;
use crate::base::fs::{self, FsError};
use crate::base::rooted::{Root, reopen};
use crate::context::{self, SourceTree};

/// Writes an overlay layer into the directory `into` that, over the context's directory `dir`, hides everything below `source`
/// that `tree` leaves out. Ok(false): nothing is left out, and `into` is unchanged.
///
/// Directories of the layer have the metadata of those that they cover.
pub(crate) fn hide_ignored(tree: &dyn SourceTree, dir: &Path, source: &str, into: &Path) -> Result<bool, Error> {
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
    // Deepest first: creating an entry changes the time of its directory.
    for parent in parents.iter().rev() {
        fs::copy_metadata(&below(dir, parent), &below(into, parent))?;
    }
    fs::copy_metadata(dir, into)?;
    Ok(true)
}

/// The owner that the kernel shows for ids that are not mapped in this user namespace.
const NOBODY: u32 = 65534;

/// Whether a file of `source` in the context's directory `dir` has an owner or group that is not mapped in this user namespace.
/// Overlayfs cannot copy up such a file.
pub(crate) fn has_unmapped_owners(dir: &Path, source: &str) -> Result<bool, Error> {
    let failed = |path: &Path, e: io::Error| FsError::new("stat", &dir.join(path), e);
    // Symlinks are followed inside the context, as the mount does.
    let root = Root::open(dir).map_err(|e| failed(Path::new(""), e))?;
    let mut todo = vec![below(Path::new("."), &context::anchor(source.as_bytes()))];
    let mut flags = OFlags::PATH;
    while let Some(path) = todo.pop() {
        let found = match root.open_at(path.as_os_str(), flags, Mode::empty()) {
            Ok(found) => found,
            // The mount reports what is wrong with the source.
            Err(_) if flags == OFlags::PATH => return Ok(false),
            Err(e) => return Err(failed(&path, e).into()),
        };
        flags = OFlags::PATH | OFlags::NOFOLLOW;
        let stat = rustix::fs::fstat(&found).map_err(|e| failed(&path, e.into()))?;
        if stat.st_uid == NOBODY || stat.st_gid == NOBODY {
            return Ok(true);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let entries = reopen(found.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)
                .and_then(|opened| Ok(rustix::fs::Dir::read_from(opened)?))
                .map_err(|e| failed(&path, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| failed(&path, e.into()))?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name != "." && name != ".." {
                    todo.push(path.join(name));
                }
            }
        }
    }
    Ok(false)
}

fn below(dir: &Path, path: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(path))
}
