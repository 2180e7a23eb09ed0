//! What a bind mount of a context shows: ignored files do not appear there either.

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

/// What an owner or group looks like that this user namespace has no id for.
const NOBODY: u32 = 65534;

/// Whether something of `source` in the context's directory `dir` belongs to somebody this user namespace does not know
/// (a checkout's group, usually). Overlay copies no such file up.
pub fn has_strangers(dir: &Path, source: &str) -> Result<bool, Error> {
    let failed = |path: &Path, e: io::Error| FsError::new("look at", &dir.join(path), e);
    // Links of the context are followed inside it, as the mount will.
    let root = Root::open(dir).map_err(|e| failed(Path::new(""), e))?;
    let mut todo = vec![below(Path::new("."), &context::anchor(source.as_bytes()))];
    let mut flags = OFlags::PATH;
    while let Some(path) = todo.pop() {
        let found = match root.open_at(path.as_os_str(), flags, Mode::empty()) {
            Ok(found) => found,
            // The mount says what is wrong with the source.
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
