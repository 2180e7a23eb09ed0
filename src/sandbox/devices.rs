//! Lets a command open device nodes that it creates, if they are among Docker's default devices (N-53).
//!
//! **Holds.** Every mount is `nodev` until a command creates a device node. Then, before the node exists, all its
//! processes move to a control group that permits creating any node, and opening those of [`OPEN`] and the devices of
//! the spec; only then do the root and `/dev` lose `nodev`. If a step fails, they keep it, and no node can be opened.
//! A disk of the host can never be opened.
//! **Not here.** Version 2 control groups, whose device controller is a BPF program. User namespaces, where the kernel
//! forbids creating device nodes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use rustix::thread::LinkNameSpaceType;

use super::cgroup::{self, Groups};
use super::spec::Device;
use super::sys::{self, Fork};
use super::userns::{self, Privilege};
use crate::base::fs;

/// The devices that may be opened: null, zero, full, random, urandom, tty, console, ptmx, terminals.
const OPEN: &[&str] = &["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "136:*"];
/// The mounts that lose `nodev`.
const PLACES: &[&str] = &["/", "/dev"];
/// The maximum number of passes over all processes; each takes well under a second.
const PASSES: usize = 1000;

/// Ok: the processes of the pid namespace of `init` can open the usual devices in its root, as long as the groups
/// exist. Err: they cannot, for this cause; `None` if no process may create nodes on this host anyway.
pub(super) fn open(init: Pid, devices: &[Device]) -> Result<Groups, Option<String>> {
    if !matches!(userns::privilege(), Ok(Privilege::Root)) {
        return Err(None);
    }
    let found = cgroup::own_hierarchy("devices").filter(|found| !found.unified);
    let found = found.ok_or_else(|| "no device controller of version 1 control groups is mounted".to_owned())?;
    let mut groups = Groups::default();
    let dir = groups.group(&found, "devices")?;
    restrict(&dir, devices)?;
    move_all(init, &dir)?;
    permit(init)?;
    Ok(groups)
}

/// Restricts the group to the permitted devices.
fn restrict(dir: &Path, devices: &[Device]) -> Result<(), String> {
    let set = |file: &str, value: &str| {
        let file = dir.join(file);
        cgroup::write(&file, value).map_err(|e| format!("cannot write {}: {e}", file.display()))
    };
    set("devices.deny", "a")?;
    for kind in ["c *:* m", "b *:* m"] {
        set("devices.allow", kind)?;
    }
    for device in OPEN {
        set("devices.allow", &format!("c {device} rwm"))?;
    }
    for device in devices {
        // A missing device was left out.
        let Ok(stat) = rustix::fs::stat(&device.host) else { continue };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => 'b',
            _ => 'c',
        };
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        set("devices.allow", &format!("{kind} {major}:{minor} rwm"))?;
    }
    Ok(())
}

/// Moves every process of the namespace to the group. Children of a moved process start in the group. Two passes must
/// find no process outside, because one may have been forked during the first.
fn move_all(init: Pid, dir: &Path) -> Result<(), String> {
    let namespace = |pid: &OsStr| rustix::fs::readlink(Path::new("/proc").join(pid).join("ns/pid"), Vec::new());
    let init = init.as_raw_nonzero().to_string();
    let theirs =
        namespace(OsStr::new(&init)).map_err(|e| format!("cannot read /proc/{init}/ns/pid: {}", io::Error::from(e)))?;
    let procs = dir.join("cgroup.procs");
    let mut clean = 0;
    for _ in 0..PASSES {
        let inside = fs::read(&procs).map_err(|e| e.to_string())?;
        let inside: BTreeSet<String> = String::from_utf8_lossy(&inside).lines().map(str::to_owned).collect();
        let mut moved = false;
        for pid in fs::list(Path::new("/proc")).map_err(|e| e.to_string())? {
            let Some(number) = pid.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else { continue };
            // A process that has ended has no namespace.
            if inside.contains(number) || !namespace(&pid).is_ok_and(|ns| ns == theirs) {
                continue;
            }
            moved = true;
            match cgroup::write(&procs, number) {
                Err(e) if e.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(format!("cannot write {}: {e}", procs.display()));
                }
                _ => {}
            }
        }
        clean = if moved { 0 } else { clean + 1 };
        if clean == 2 {
            return Ok(());
        }
    }
    Err("the command starts processes faster than kiln can move them to a control group".to_owned())
}

/// Removes `nodev` from [`PLACES`], in a child that enters the command's mount namespace.
fn permit(init: Pid) -> Result<(), String> {
    match sys::fork().map_err(|e| format!("cannot fork: {e}"))? {
        Fork::Child => {
            let cleared = clear_nodev(init);
            std::process::exit(cleared.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0))
        }
        Fork::Parent(pid) => {
            let ended = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            match ended.ok().flatten().and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                errno => {
                    let error = io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO));
                    Err(format!("cannot remove nodev from / and /dev: {error}"))
                }
            }
        }
    }
}

fn clear_nodev(init: Pid) -> io::Result<()> {
    let namespace = PathBuf::from(format!("/proc/{}/ns/mnt", init.as_raw_nonzero()));
    let namespace = rustix::fs::open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    for place in PLACES {
        // A mount or symlink of the command at this path does not lead out of its root; the group restricts it anyway.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mount = rustix::fs::open(*place, flags, Mode::empty())?;
        sys::clear_mount_attributes(mount.as_fd(), libc::MOUNT_ATTR_NODEV)?;
    }
    Ok(())
}
