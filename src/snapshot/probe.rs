//! Finding the method that works on this host.

use std::io;
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

/// How layers become the root of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Overlayfs over the unpacked layers.
    Overlay {
        /// Overlayfs keeps its attributes in `user.*`: kiln is root of a user namespace only.
        userxattr: bool,
    },
    /// Every root is a full copy; its layer is the difference of two trees.
    Copy,
}

/// The best method that works here, tried in the directory `scratch`; and why it is not overlayfs.
pub(crate) fn best(user_namespace: bool, scratch: &Path) -> (Method, Option<io::Error>) {
    let overlay = Method::Overlay { userxattr: user_namespace };
    match probe(overlay, scratch) {
        Ok(()) => (overlay, None),
        Err(why) => (Method::Copy, Some(why)),
    }
}

/// Tries `method` once in the directory `scratch`. Ok: it works there. No mount is attached to any directory.
pub(crate) fn probe(method: Method, scratch: &Path) -> io::Result<()> {
    let Method::Overlay { userxattr } = method else { return Ok(()) };
    let dir = scratch.join("probe");
    crate::base::fs::create_dir(&dir, 0o700).map_err(|e| e.source)?;
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        let path = dir.join(name);
        crate::base::fs::create_dir(&path, 0o700).map_err(|e| e.source)?;
        fsconfig_set_string(&overlay, option, &path)?;
    }
    if userxattr {
        fsconfig_set_flag(&overlay, "userxattr")?;
    }
    fsconfig_create(&overlay)?;
    fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(())
}
