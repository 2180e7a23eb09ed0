//! A failed setup step, as reported to the process that started the sandbox.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hint::Hint;

/// A stage of the setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Receiving the orders.
    Start,
    /// New mount, ipc, uts, cgroup and network namespaces.
    Namespaces,
    /// The root file system.
    Rootfs,
    /// `/proc`, `/sys`, `/dev`.
    SystemMounts,
    /// The mounts of the spec.
    Mounts,
    /// Making the root file system the only visible one.
    Pivot,
    /// The network.
    Network,
    /// User and groups, working directory.
    User,
    /// Resource limits.
    Limits,
    /// Capabilities and the system call filter.
    Confine,
    /// Executing the command.
    Exec,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Start => "start",
            Stage::Namespaces => "namespaces",
            Stage::Rootfs => "root file system",
            Stage::SystemMounts => "system mounts",
            Stage::Mounts => "mounts",
            Stage::Pivot => "pivot",
            Stage::Network => "network",
            Stage::User => "user",
            Stage::Limits => "limits",
            Stage::Confine => "confinement",
            Stage::Exec => "exec",
        })
    }
}

/// Where the cause of a failed setup lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The host lacks or forbids something.
    Host,
    /// The command, user, working directory or a mount of the request is wrong.
    Request,
}

/// One setup step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupFailure {
    /// The stage it belongs to.
    pub stage: Stage,
    /// What failed: `cannot mount /proc`, or a problem of the request.
    pub what: String,
    /// The error of the system call, if one failed.
    pub errno: Option<i32>,
    /// A remedy, if known.
    pub hint: Option<Hint>,
    /// Where the cause lies.
    pub fault: Fault,
    /// The exit status that a shell would report: 127 = no such command, 126 = cannot be executed, 125 otherwise.
    pub code: u8,
    /// The step needs a user or group id that is not mapped in kiln's user namespace.
    pub ids: bool,
}

impl fmt::Display for SetupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            let error = std::io::Error::from_raw_os_error(errno);
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text);
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}
