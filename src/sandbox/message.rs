//! What the processes of one run say to the one that started them.
//!
//! **Order.** `Reached`*, then either `Failed` or silence (the socket closes at exec), then `Ended` from the warden.
//! The socket is close-on-exec: the command cannot speak here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What init was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Reading its orders.
    Start,
    /// New mount, ipc, uts, cgroup and network namespaces.
    Namespaces,
    /// The root file system.
    Rootfs,
    /// `/proc`, `/sys`, `/dev`.
    SystemMounts,
    /// The mounts asked for.
    Mounts,
    /// Making the root the only thing there is.
    Pivot,
    /// The network.
    Network,
    /// User and groups, working directory.
    User,
    /// Resource limits.
    Limits,
    /// Capabilities and the system call filter.
    Confine,
    /// Handing over to the command.
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

/// Whose fault a failed setup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blame {
    /// The host does not allow or have something.
    Host,
    /// The command, user, working directory or a mount was asked for wrongly.
    Request,
}

/// One setup step that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where in the procedure.
    pub stage: Stage,
    /// What was being done, with its operand: `mount /proc`.
    pub what: String,
    /// The system's answer, if it was the system that refused.
    pub errno: Option<i32>,
    /// What would help.
    pub hint: Option<String>,
    /// Whose fault.
    pub blame: Blame,
    /// What a shell would report: 127 = no such command, 126 = cannot be executed, 125 otherwise.
    pub code: u8,
    /// A user or group id was wanted that kiln's user namespace does not have.
    pub ids: bool,
}

impl fmt::Display for Failure {
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

/// What kiln tells the warden first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders<S> {
    /// Standard input follows as a descriptor.
    pub(super) stdin: bool,
    /// Then as many listening sockets, which lead to these ports inside.
    pub(super) ports: Vec<u16>,
    /// The command gets a terminal of its own.
    pub(super) terminal: bool,
    /// Its changes of files are watched: all of them, or only names that move.
    pub(super) watched: Option<bool>,
    /// The command.
    pub(super) spec: S,
}

/// What kiln tells the warden while the command runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Give the command this signal.
    Signal(i32),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Init has come this far.
    Reached(Stage),
    /// Init gave up; nothing was executed.
    Failed(Failure),
    /// Something asked for could not be had and was done without: `(what, why)`.
    Fallback(String, String),
    /// Made in a plain root for mount targets; to be taken away in the end.
    Made(Vec<super::stubs::Made>),
    /// The init process of a terminal run hands over the terminal's other end with this message.
    Terminal,
    /// Init hands over the listener of calls that are stopped, with this message.
    Watched,
    /// Calls of the command that failed, or will be of no use, because of what kiln itself has not.
    Noticed(Vec<super::seccomp::Notice>),
    /// Pid 1 has ended, and with it everything in its namespace.
    Ended(super::spec::Exit),
}

/// What is announced where nobody looks at a command's changes of files, and why.
pub(super) fn unwatched(why: &str) -> (String, String) {
    let what = "being asked before a command changes files: what changes one name of a hard-linked file changes all";
    (what.to_owned(), why.to_owned())
}
