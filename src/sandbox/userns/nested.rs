//! A user namespace for one command, used if the command cannot have a `/proc` of its own.
//!
//! Without a `/proc` of its own the command sees the processes of all commands, and kiln's. Reading another process's
//! environment, memory, files or root through `/proc` needs rights in that process's user namespace, and within one
//! namespace equal ids are enough. Two sibling namespaces have no rights over each other, whatever their ids (S-15).

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::process::{Pid, WaitIdOptions};
use rustix::thread::UnshareFlags;

use super::idmap;
use super::maps::write_map;
use super::obstacle::NamespaceObstacle;
use super::privilege::{Privilege, privilege};
use crate::base::fs;
use crate::sandbox::hint::Hint;
use crate::sandbox::problem::{Context, Problem, StepResult};
use crate::sandbox::sys::{self, Fork};
use crate::sandbox::system;

/// The exit code of a child that could not try.
const UNKNOWN: i32 = 2;

/// Enters a user namespace if init would have to. The warden calls it before it creates anything that the command needs
/// rights over, such as a network namespace. Ok(true): it was necessary, and this process has entered one.
pub(in crate::sandbox) fn enter_if_needed() -> StepResult<bool> {
    let below = matches!(privilege(), Ok(Privilege::Namespace { .. }));
    if !below || can_mount_proc()? {
        return Ok(false);
    }
    enter()?;
    Ok(true)
}

/// Whether a new pid namespace of this process could mount a `/proc`. This is tried, because the kernel's decision
/// depends on mounts that are not all visible from here.
fn can_mount_proc() -> StepResult<bool> {
    let answer = in_child(|| {
        let tried = sys::unshare(UnshareFlags::NEWPID).context(|| "create a pid namespace".to_owned());
        tried
            .and_then(|()| in_child(|| system::fresh_proc().map_or(UNKNOWN, |proc| i32::from(proc.is_none()))))
            .ok()
            .flatten()
            .unwrap_or(UNKNOWN)
    })?;
    // Any other failure recurs in init, which reports it.
    Ok(answer != Some(1))
}

/// Forks a child that exits with the result of `work`; its exit code, or none if a signal killed it.
fn in_child(work: impl FnOnce() -> i32) -> StepResult<Option<i32>> {
    match sys::fork().context(|| "fork".to_owned())? {
        Fork::Child => std::process::exit(work()),
        Fork::Parent(pid) => exit_code(pid),
    }
}

fn exit_code(pid: Pid) -> StepResult<Option<i32>> {
    let ended = rustix::process::waitid(rustix::process::WaitId::Pid(pid), WaitIdOptions::EXITED);
    Ok(ended.context(|| "wait for a helper".to_owned())?.and_then(|status| status.exit_status()))
}

/// Ok: this process is in a new user namespace, with the ids it had. Its other namespaces still belong to the outer
/// one: those it needs rights over must be created again.
pub(in crate::sandbox) fn enter() -> StepResult<()> {
    let maps = [identity_of("uid_map")?, identity_of("gid_map")?];
    // The pid as `/proc` shows it, which is not that of our pid namespace.
    let me = rustix::fs::readlink("/proc/self", Vec::new()).context(|| "read /proc/self".to_owned())?;
    let me = me.to_string_lossy().into_owned();
    let (mut waits, mut go) = io::pipe().context(|| "create a pipe".to_owned())?;
    // The maps are written by a child that stays in the outer namespace and has rights there.
    let pid = match sys::fork().context(|| "fork".to_owned())? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(go);
            let [uids, gids] = &maps;
            let written = waits
                .read_exact(&mut [0])
                .and_then(|()| write_map(&me, "uid_map", uids))
                .and_then(|()| write_map(&me, "gid_map", gids));
            std::process::exit(written.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0))
        }
    };
    let unshared = sys::unshare(UnshareFlags::NEWUSER);
    if unshared.is_ok() {
        go.write_all(b"g").context(|| "start writing the id maps of a user namespace".to_owned())?;
    }
    drop(go);
    let written = exit_code(pid);
    unshared.context(|| "create a user namespace".to_owned()).map_err(|problem| {
        match NamespaceObstacle::of_user_namespace(problem.errno().unwrap_or(libc::EPERM)) {
            Some(found) => problem.hint(Hint::Obstacle(found)),
            None => problem,
        }
    })?;
    match written? {
        Some(0) => Ok(()),
        errno => {
            let error = io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO));
            Err(Problem::host("write the id maps of a user namespace", &error))
        }
    }
}

/// The map of this namespace with every id mapped to itself.
fn identity_of(file: &str) -> StepResult<String> {
    let path = format!("/proc/self/{file}");
    let bytes = fs::read(Path::new(&path)).map_err(|e| e.source).context(|| format!("read {path}"))?;
    Ok(idmap::lines(&idmap::identity(&String::from_utf8_lossy(&bytes))))
}
