//! The environment of the process, read once at start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::base::time::Timestamp;
use crate::cli::failure::{Failure, Kind};

/// Tells the process inside a user namespace when the command began.
pub(in crate::cli) const BEGAN: &str = "KILN_BEGAN";

/// The variables and user kiln was started with.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Effective user id.
    pub(in crate::cli) uid: u32,
}

impl Environment {
    /// Reads the process's environment.
    pub(in crate::cli) fn read() -> Self {
        Self { variables: std::env::vars_os().collect(), uid: rustix::process::geteuid().as_raw() }
    }

    /// The value of a variable, even if it is empty.
    pub(in crate::cli) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of a variable; empty counts as unset.
    pub(in crate::cli) fn non_empty(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of a variable as text; empty counts as unset.
    pub(in crate::cli) fn text(&self, name: &str) -> Option<String> {
        self.non_empty(name)?.to_str().map(str::to_owned)
    }

    /// Whether colour is allowed: no `NO_COLOR`, and `TERM` is not dumb (O-70).
    pub(in crate::cli) fn wants_colour(&self) -> bool {
        self.non_empty("NO_COLOR").is_none() && self.get("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether a terminal can move its cursor.
    pub(in crate::cli) fn can_redraw(&self) -> bool {
        self.non_empty("TERM").is_some_and(|term| term != "dumb")
    }

    /// `/etc/resolv.conf` of the host.
    pub(in crate::cli) fn resolv_conf(&self) -> Result<Vec<u8>, Failure> {
        Ok(fs::read_opt(Path::new("/etc/resolv.conf"))?.unwrap_or_default())
    }

    /// The kernel's list of CPUs (`cpu`) or memory nodes (`node`) that are online; none if there is no list.
    pub(in crate::cli) fn online(&self, kind: &str) -> Result<Option<String>, Failure> {
        let list = fs::read_opt(&Path::new("/sys/devices/system").join(kind).join("online"))?;
        Ok(list.map(|list| String::from_utf8_lossy(&list).into_owned()))
    }

    /// The SSH agent of the user.
    pub(in crate::cli) fn agent(&self) -> Option<&Path> {
        self.non_empty("SSH_AUTH_SOCK").map(Path::new)
    }

    /// When the command began, if this is the process inside a user namespace.
    pub(in crate::cli) fn began(&self) -> Option<Timestamp> {
        self.non_empty(BEGAN)?.to_str()?.parse().ok()
    }

    /// The directory of the store.
    pub(in crate::cli) fn store_root(&self, option: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(root) = option {
            return Ok(root.to_owned());
        }
        if let Some(root) = self.non_empty("KILN_ROOT") {
            return Ok(PathBuf::from(root));
        }
        if self.uid == 0 {
            return Ok(PathBuf::from("/var/lib/kiln"));
        }
        // The base directory specification says to ignore a relative value.
        let data = self.non_empty("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| self.non_empty("HOME").map(|home| Path::new(home).join(".local/share")));
        match data {
            Some(data) => Ok(data.join("kiln")),
            None => Err(Failure::new(Kind::Host, "cannot choose a store: HOME is not set")
                .hint("choose one with --root or KILN_ROOT")),
        }
    }
}

#[cfg(test)]
impl Environment {
    /// An environment for a test.
    pub(in crate::cli) fn of(uid: u32, variables: &[(&str, &str)]) -> Self {
        Self { variables: variables.iter().map(|(k, v)| (k.into(), v.into())).collect(), uid }
    }
}
