//! Mounts as descriptors: created detached and attached by descriptor, never by a path that could be swapped (S-2,
//! S-13, S-18).

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};

use super::hint::Hint;
use super::problem::{Context, Problem, StepResult};
use super::sys;

/// Options of a new file system: `(key, value)`.
pub(super) type Options<'a> = &'a [(&'a str, &'a str)];

/// Every mount in the sandbox is `nodev`: the command may create device nodes (they belong to the layer) but not open
/// them, unless a device controller restricts which (`devices`).
pub(super) const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

/// `noexec`.
pub(super) const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// `nosuid,nodev,noexec`.
pub(super) const INERT: MountAttrFlags = NODEV.union(MountAttrFlags::MOUNT_ATTR_NOSUID).union(NOEXEC);

/// Read-only, for [`super::sys::set_mount_attributes`].
pub(super) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;

/// A new detached file system. `what` names it in an error.
pub(super) fn new(kind: &str, options: Options<'_>, attributes: MountAttrFlags, what: &str) -> StepResult<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context(|| format!("mount {what}"))?;
    // The name in /proc/mounts, otherwise `none`.
    fsconfig_set_string(&fs, "source", kind).context(|| format!("set the source of mount {what}"))?;
    for (key, value) in options {
        fsconfig_set_string(&fs, *key, *value)
            .context(|| format!("set option {key}={value} of mount {what}"))
            .map_err(|p| with_log(p, &fs))?;
    }
    fsconfig_create(&fs).context(|| format!("mount {what}")).map_err(|p| with_log(p, &fs))?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context(|| format!("mount {what}"))
}

/// Adds the kernel's log of this mount as the hint.
pub(super) fn with_log(problem: Problem, fs: &OwnedFd) -> Problem {
    let mut text = String::new();
    let Ok(copy) = fs.try_clone() else { return problem };
    let mut log = std::fs::File::from(copy);
    let mut line = [0u8; 512];
    // One message per read; ENODATA ends the log.
    while let Ok(n) = log.read(&mut line) {
        let message = String::from_utf8_lossy(&line[..n]);
        let message = message.trim().trim_start_matches(['e', 'w', 'i']).trim();
        if n == 0 || message.is_empty() {
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(message);
    }
    if text.is_empty() { problem } else { problem.hint(Hint::KernelLog(text)) }
}

/// A detached bind mount of what `at` refers to, with the mounts below it.
pub(super) fn view(at: BorrowedFd<'_>, what: &str) -> StepResult<OwnedFd> {
    // Recursive, because a user namespace must not uncover what inherited mounts hide.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(at, c"", flags).context(|| format!("bind-mount {what}"))
}

/// Mounts a detached mount over what `target` refers to.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, what: &str) -> StepResult<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags).context(|| format!("mount {what}"))
}

/// Makes a mount and all below it read-only.
pub(super) fn read_only(mount: &OwnedFd, what: &str) -> StepResult<()> {
    sys::set_mount_attributes(mount.as_fd(), READ_ONLY, true).context(|| format!("make {what} read-only"))
}

/// Makes a mount and all below it `nodev`.
pub(super) fn no_devices(mount: &OwnedFd, what: &str) -> StepResult<()> {
    sys::set_mount_attributes(mount.as_fd(), libc::MOUNT_ATTR_NODEV, true).context(|| format!("set nodev on {what}"))
}

/// Restricts a mount and all below it: no devices, no set-id bits, no execution.
pub(super) fn restrict(mount: &OwnedFd, nodev: bool, nosuid: bool, noexec: bool, what: &str) -> StepResult<()> {
    let all = [(nodev, libc::MOUNT_ATTR_NODEV), (nosuid, libc::MOUNT_ATTR_NOSUID), (noexec, libc::MOUNT_ATTR_NOEXEC)];
    let attributes = all.into_iter().filter(|(on, _)| *on).fold(0, |set, (_, attribute)| set | attribute);
    sys::set_mount_attributes(mount.as_fd(), attributes, true).context(|| format!("restrict mount {what}"))
}

/// Makes a mount and all below it `noexec`.
pub(super) fn no_programs(mount: &OwnedFd, what: &str) -> StepResult<()> {
    sys::set_mount_attributes(mount.as_fd(), libc::MOUNT_ATTR_NOEXEC, true).context(|| format!("set noexec on {what}"))
}
