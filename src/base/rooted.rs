//! Paths confined to a directory.
//!
//! **Holds.** A [`Root`] is a directory descriptor. The kernel resolves every path in it with
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: absolute paths and absolute symlinks start at the root, `..`
//! stops at it, `/proc` magic links fail (S-18, S-30…S-32, S-90, S-95).
//! **Order.** To change something, open its parent in the root, then use calls that do not follow the last name: a link
//! that is swapped in between is never followed (S-2, S-3, S-23).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory that its paths cannot leave.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens the directory at `path`, which is one of kiln's own or given by the user; symlinks are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// The directory of a descriptor.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Opens `path` inside the root, symlinks followed inside it, with `CLOEXEC` and `NOCTTY`. Opening a fifo blocks unless
    /// `flags` has `NONBLOCK`: check the type first, through `PATH` (S-91, S-92).
    pub fn open_at(&self, path: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        resolve(self.0.as_fd(), path, flags, mode, ResolveFlags::empty())
    }

    /// An `O_PATH` descriptor of what `path` names, symlinks followed inside the root.
    pub fn locate(&self, path: &OsStr) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, Mode::empty())
    }

    /// [`Root::locate`] that does not follow the last component.
    pub fn locate_nofollow(&self, path: &OsStr) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// The directory that `path` names, as a root of its own.
    pub fn subdir(&self, path: &OsStr) -> io::Result<Root> {
        Ok(Root(self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?))
    }

    /// The parent directory of `path` (resolved in the root) and the last name, which is not looked up.
    /// `/`, `.`, `..` and the empty path have no last name: `EINVAL`.
    pub fn parent(&self, path: &OsStr) -> io::Result<(Root, OsString)> {
        let (parent, name) = split(path)?;
        Ok((self.subdir(&parent)?, name))
    }

    /// Opens a regular file for reading. Anything else is an error and is not opened (S-91).
    pub fn open_file(&self, path: &OsStr) -> io::Result<File> {
        let found = self.locate(path)?;
        let stat = rustix::fs::fstat(&found)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        reopen(found.as_fd(), OFlags::RDONLY).map(File::from)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the file of an `O_PATH` descriptor for reading or writing.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

/// `a/b/c` → (`a/b`, `c`); trailing slashes dropped.
fn split(path: &OsStr) -> io::Result<(OsString, OsString)> {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|&b| b != b'/').map_or(0, |i| i + 1);
    let bytes = &bytes[..end];
    let start = bytes.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    let (parent, name) = bytes.split_at(start);
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::INVAL.into());
    }
    let parent = if parent.is_empty() { b"." } else { parent };
    Ok((OsString::from_vec(parent.to_vec()), OsString::from_vec(name.to_vec())))
}

/// How often a lookup that raced is tried: the second half of them 10 ms apart.
const RETRIES: usize = 256;

fn resolve(dir: BorrowedFd<'_>, path: &OsStr, flags: OFlags, mode: Mode, extra: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { OsStr::new(".") } else { path };
    // openat2 rejects NOCTTY with O_PATH.
    let no_tty = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
    let flags = flags | OFlags::CLOEXEC | no_tty;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | extra;
    // EAGAIN: a rename or mount anywhere on the machine raced with `..`; the kernel asks the caller to retry.
    for attempt in 0..RETRIES {
        match rustix::fs::openat2(dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN) if attempt < RETRIES / 2 => {}
            // Other processes keep mounting: let them finish.
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(10)),
            Ok(fd) => return Ok(fd),
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::AGAIN.into())
}
