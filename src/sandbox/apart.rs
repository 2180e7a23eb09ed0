//! Where no `/proc` of a command's own is to be had: a user namespace of its own instead.
//!
//! There the processes of all commands, and kiln's, are listed in the one `/proc` that everybody sees. Reading another's
//! environment, memory, files or root through it needs rights in the other's user namespace, and same ids are enough
//! inside one. Two namespaces side by side have none over each other, whatever their ids (S-15).

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::process::{Pid, WaitIdOptions};
use rustix::thread::UnshareFlags;

use crate::base::fs;

use super::obstacle::Obstacle;
use super::problem::{Doing, Problem, Step};
use super::sys::{self, Fork};
use super::userns::{self, Standing};
use super::{idmap, system};

/// Whether a pid namespace made by this process would get a `/proc` of its own. It is tried: what the kernel looks at
/// are mounts that cannot all be seen from here.
fn proc_is_given() -> Step<bool> {
    let answer = forked(|| {
        let tried = sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".to_owned());
        tried
            .and_then(|()| forked(|| system::fresh_proc().map_or(FAILED, |proc| i32::from(proc.is_none()))))
            .ok()
            .flatten()
            .unwrap_or(FAILED)
    })?;
    // What else went wrong will again, where it can be told.
    Ok(answer != Some(1))
}

const FAILED: i32 = 2;

/// The exit code of a copy of this process that ends with what `work` gives; none if a signal ended it.
fn forked(work: impl FnOnce() -> i32) -> Step<Option<i32>> {
    match sys::fork().doing(|| "fork".to_owned())? {
        Fork::Child => std::process::exit(work()),
        Fork::Parent(pid) => ended(pid),
    }
}

fn ended(pid: Pid) -> Step<Option<i32>> {
    let ended = rustix::process::waitid(rustix::process::WaitId::Pid(pid), WaitIdOptions::EXITED);
    Ok(ended.doing(|| "wait for a helper".to_owned())?.and_then(|status| status.exit_status()))
}

/// Before anything is made that the command needs rights over, a network for one: does what init would find necessary.
/// Ok(true): it was, and is done.
pub(super) fn ahead() -> Step<bool> {
    let below = matches!(userns::standing(), Ok(Standing::Namespace { .. }));
    if !below || proc_is_given()? {
        return Ok(false);
    }
    own_users()?;
    Ok(true)
}

/// Ok: this process has a user namespace of its own, with the ids it had. Namespaces it had before belong to the one
/// around: what it needs rights over has to be made again.
pub(super) fn own_users() -> Step<()> {
    let maps = [map_of("uid_map")?, map_of("gid_map")?];
    // By the number that `/proc` knows, which is not that of our pid namespace.
    let me = rustix::fs::readlink("/proc/self", Vec::new()).doing(|| "read /proc/self".to_owned())?;
    let me = me.to_string_lossy().into_owned();
    let (mut waits, mut go) = io::pipe().doing(|| "make a pipe".to_owned())?;
    // Ids are given by somebody who stays behind, and has rights there.
    let pid = match sys::fork().doing(|| "fork".to_owned())? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(go);
            let told = waits.read_exact(&mut [0]);
            let [uids, gids] = &maps;
            let given = told
                .and_then(|()| userns::write_map(&me, "uid_map", uids))
                .and_then(|()| userns::write_map(&me, "gid_map", gids));
            std::process::exit(given.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0))
        }
    };
    let unshared = sys::unshare(UnshareFlags::NEWUSER);
    if unshared.is_ok() {
        go.write_all(b"g").doing(|| "let the ids be given".to_owned())?;
    }
    drop(go);
    let given = ended(pid);
    unshared.doing(|| "make a user namespace".to_owned()).map_err(|problem| {
        match Obstacle::to_users(problem.errno().unwrap_or(libc::EPERM)) {
            Some(found) => problem.hint(format!("{found}: {}", found.hint())),
            None => problem,
        }
    })?;
    match given? {
        Some(0) => Ok(()),
        errno => {
            let error = io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO));
            Err(Problem::host("give a user namespace its ids", &error))
        }
    }
}

/// Every id as itself.
fn map_of(file: &str) -> Step<String> {
    let path = format!("/proc/self/{file}");
    let bytes = fs::read(Path::new(&path)).map_err(|e| e.source).doing(|| format!("read {path}"))?;
    Ok(idmap::lines(&idmap::identity(&String::from_utf8_lossy(&bytes))))
}
