//! Writes the id maps of a new user namespace.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Gid, Uid};

use super::error::Error;
use super::idmap;
use super::obstacle::NamespaceObstacle;
use super::privilege::text;
use super::reason::{Powerless, SingleIdReason};

/// The user and its subordinate ids, written by the set-uid helpers.
pub(super) struct Ranges {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
    uids: Vec<idmap::Range>,
    gids: Vec<idmap::Range>,
}

impl Ranges {
    /// The ids that this user may map, or why there are none.
    pub(super) fn of(uid: Uid, gid: Gid) -> Result<Self, SingleIdReason> {
        let newuidmap = helper("newuidmap")?;
        let newgidmap = helper("newgidmap")?;
        let passwd = text("/etc/passwd");
        let name = idmap::name_of(&passwd, uid.as_raw());
        let find = |file: &str| {
            let ranges = idmap::subordinate(&text(file), name, uid.as_raw());
            if ranges.is_empty() {
                // A range that is free in both files, because they belong together.
                let free = idmap::first_free(&[text("/etc/subuid"), text("/etc/subgid")]);
                let user = name.map_or_else(|| uid.as_raw().to_string(), str::to_owned);
                return Err(SingleIdReason::NoRange { file: file.to_owned(), user, named: name.is_some(), free });
            }
            Ok(ranges)
        };
        Ok(Self {
            newuidmap,
            newgidmap,
            uids: idmap::map(uid.as_raw(), &find("/etc/subuid")?),
            gids: idmap::map(gid.as_raw(), &find("/etc/subgid")?),
        })
    }

    /// Writes the maps of the namespace of `pid`.
    pub(super) fn write(&self, pid: u32) -> Result<(), SingleIdReason> {
        let failed = |program: &Path, error: io::Error| SingleIdReason::HelperFailed {
            program: program.display().to_string(),
            error: error.to_string(),
        };
        let run = |program: &Path, map: &[idmap::Range]| {
            let mut command = Command::new(program);
            command.arg(pid.to_string()).args(idmap::arguments(map)).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::piped()).spawn().map_err(|e| failed(program, e))
        };
        // Both run at once: they wait only for the kernel.
        let (uids, gids) = (run(&self.newuidmap, &self.uids)?, run(&self.newgidmap, &self.gids)?);
        for (program, child) in [(&self.newuidmap, uids), (&self.newgidmap, gids)] {
            let out = child.wait_with_output().map_err(|e| failed(program, e))?;
            if !out.status.success() {
                return Err(SingleIdReason::HelperRefused {
                    program: program.display().to_string(),
                    output: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
                    powerless: powerless(program),
                });
            }
        }
        Ok(())
    }
}

/// Why this user, outside any namespace, has no subordinate ids to map.
pub(crate) fn subordinate_problem() -> Option<SingleIdReason> {
    let uid = rustix::process::getuid();
    if uid.is_root() { None } else { Ranges::of(uid, rustix::process::getgid()).err() }
}

/// Why a helper lacks the rights that it needs.
fn powerless(program: &Path) -> Option<Powerless> {
    use std::os::unix::fs::MetadataExt as _;
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Some(Powerless::NoNewPrivileges);
    }
    let setuid = std::fs::metadata(program).is_ok_and(|found| found.mode() & 0o4000 != 0);
    let capable = rustix::fs::getxattr(program, c"security.capability", &mut [0u8; 64][..]).is_ok();
    (!setuid && !capable).then_some(Powerless::NotSetuid)
}

/// The directories of set-uid helpers. The user's `PATH` is not trusted.
const HELPER_DIRS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/wrappers/bin"];

fn helper(name: &str) -> Result<PathBuf, SingleIdReason> {
    let found = HELPER_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    found.ok_or_else(|| SingleIdReason::HelperMissing { name: name.to_owned() })
}

/// Maps every id to itself, which root may do even without `CAP_SYS_ADMIN`.
pub(super) fn write_identity(pid: u32) -> Result<(), Error> {
    for file in ["uid_map", "gid_map"] {
        let map = idmap::lines(&idmap::identity(&text(&format!("/proc/self/{file}"))));
        write_map(&pid.to_string(), file, &map).map_err(|e| Error {
            what: format!("write {file} of a user namespace"),
            source: e,
            obstacle: None,
            capabilities: true,
        })?;
    }
    Ok(())
}

/// Maps only the user. The kernel requires such a namespace to give up `setgroups` first.
pub(super) fn write_single(pid: u32) -> Result<(), Error> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    for (file, content) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        write_map(&pid.to_string(), file, &content).map_err(|e| Error {
            what: format!("write {file} of a user namespace"),
            source: e,
            obstacle: NamespaceObstacle::of_user_namespace(libc::EPERM),
            capabilities: false,
        })?;
    }
    Ok(())
}

/// Writes a map of the process that `/proc` calls `pid`.
pub(super) fn write_map(pid: &str, file: &str, content: &str) -> io::Result<()> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/{pid}/{file}"), flags, rustix::fs::Mode::empty())?;
    // In one call, because the kernel accepts a map only as a whole.
    rustix::io::write(&file, content.as_bytes())?;
    Ok(())
}
