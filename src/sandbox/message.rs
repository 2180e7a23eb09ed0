//! The messages among kiln, the warden and init.
//!
//! **Order.** kiln sends [`Orders`], later any number of [`Order`]s. Init sends `Reached` for each stage, then either
//! `Failed` or nothing more (its end of the socket is closed by exec, so the command cannot write to it). The warden
//! sends `Ended` last.

use serde::{Deserialize, Serialize};

use super::failure::{SetupFailure, Stage};
use super::fallback::Fallback;
use super::seccomp::{Notice, WatchScope};
use super::spec::Exit;
use super::stubs::Created;

/// The first message of kiln to the warden.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders<S> {
    /// Which standard streams follow.
    pub(super) streams: Follow,
    /// The published ports in the sandbox; one listening socket of the host follows for each.
    pub(super) ports: Vec<u16>,
    /// The command gets a terminal of its own.
    pub(super) terminal: bool,
    /// Which system calls stop until kiln has replied.
    pub(super) watch: Option<WatchScope>,
    /// The command.
    pub(super) spec: S,
}

/// Which of the command's standard streams follow the orders, as descriptors; the others are `/dev/null`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Follow {
    pub(super) stdin: bool,
    /// Standard output, then standard error.
    pub(super) output: bool,
}

/// A message of kiln to the warden while the command runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Send the command this signal.
    Signal(i32),
}

/// A message of init or the warden to kiln.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Init entered this stage.
    Reached(Stage),
    /// A step of the setup failed; nothing was executed.
    Failed(SetupFailure),
    /// The command runs without something.
    Fallback(Fallback),
    /// Mount targets that were created in the root; kiln removes them at the end.
    Created(Vec<Created>),
    /// The other end of the command's terminal is attached.
    Terminal,
    /// The listener of the file filter is attached.
    FileListener,
    /// System calls of the command that cannot work on this host.
    Noticed(Vec<Notice>),
    /// Pid 1 has ended, and with it every process of its namespace.
    Ended(Exit),
}
