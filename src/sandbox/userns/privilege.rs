//! The privilege of this process: root of the host, root of a user namespace, or neither.

use std::path::Path;

use rustix::thread::{CapabilitySet, UnshareFlags};

use super::error::Error;
use super::idmap;
use crate::base::fs;
use crate::sandbox::seccomp::Limits;
use crate::sandbox::sys;

/// The privilege of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// Root of the host, with the capabilities that namespaces need.
    Root,
    /// Root of a user namespace that maps this many ids.
    Namespace {
        /// 1 = every file belongs to the one user.
        ids: u64,
    },
    /// A plain user, or the root of a container without `CAP_SYS_ADMIN`: either has to [enter](fn@super::enter) a user
    /// namespace first.
    Plain,
}

/// The privilege of this process.
pub(crate) fn privilege() -> Result<Privilege, Error> {
    let admin = rustix::thread::capabilities(None).map_err(|e| Error::new("read the capabilities", e))?;
    if !rustix::process::geteuid().is_root() || !admin.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(Privilege::Plain);
    }
    let uid_map = Path::new("/proc/self/uid_map");
    let uid_map = fs::read(uid_map).map_err(|e| Error::new("read /proc/self/uid_map", e.source))?;
    let ids = idmap::count(&String::from_utf8_lossy(&uid_map));
    Ok(if ids == u64::from(u32::MAX) { Privilege::Root } else { Privilege::Namespace { ids } })
}

/// Lets this thread and its children mount. The root of a user namespace that another program created (`unshare -r`)
/// may still be in the host's mount namespace, where mounting is forbidden. To be called as root of a namespace. Ok:
/// mounting is allowed, or a mount namespace would not help.
pub(crate) fn own_mounts() -> Result<(), Error> {
    match rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(rustix::io::Errno::PERM) => {
            sys::unshare(UnshareFlags::NEWNS).map_err(|e| Error::new("create a mount namespace", e))
        }
        _ => Ok(()),
    }
}

/// The limits of this process's user namespace.
pub(in crate::sandbox) fn limits() -> Limits {
    let first_unmapped = |file: &str| u32::try_from(idmap::count(&text(file))).unwrap_or(u32::MAX);
    Limits {
        ids: first_unmapped("/proc/self/uid_map").min(first_unmapped("/proc/self/gid_map")),
        groups: text("/proc/self/setgroups").trim() != "deny",
        names: false,
    }
}

/// The content of a file, empty if it cannot be read.
pub(super) fn text(path: &str) -> String {
    fs::read_opt(Path::new(path)).ok().flatten().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}
