//! Files in an upper directory that a command copied up and left as they were. The layer does not have them: nobody could
//! verify them later, and one that is damaged would hide the file below.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::disk;
use super::entry::RelPath;
use super::error::Error;
use super::place;

/// The files to remove from one upper directory.
#[derive(Debug)]
pub(crate) struct Leftovers {
    pub(super) root: OwnedFd,
    /// Sorted: parents come first.
    pub(super) paths: Vec<RelPath>,
    /// The directory hides the layers below one of them, so it must stay.
    pub(super) needed: bool,
}

impl Leftovers {
    /// Removes them. Nobody uses the directory any more. Ok(true): it holds what the layer says, and nothing else. Ok(false):
    /// it shows the same as the layer, but is not like it.
    pub(crate) fn remove(self) -> Result<bool, Error> {
        if self.needed {
            return Ok(false);
        }
        for path in self.paths.iter().rev() {
            let parent = path.parent().unwrap_or_default();
            let dir = disk::open_dir_at(self.root.as_fd(), &parent).map_err(|e| Error::system("open", &parent, e))?;
            let failed = |e| Error::system("remove", path, e);
            let before = disk::look(dir.as_fd(), OsStr::new(".")).map_err(failed)?;
            let name = OsStr::from_bytes(path.name());
            let gone = match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR),
                other => other,
            };
            match gone {
                Ok(()) => {}
                // Something in it is a change, or a whiteout of nothing.
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
                Err(e) => return Err(failed(e.into())),
            }
            place::set_file_mtime(dir.as_fd(), before.meta.mtime).map_err(failed)?;
        }
        Ok(true)
    }
}
