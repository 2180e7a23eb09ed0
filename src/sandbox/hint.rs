//! Remedies for a failed setup, as data; `cli` has their texts.

use serde::{Deserialize, Serialize};

use super::network_helper::NetworkHelper;
use super::program::ExecObstacle;
use super::userns::{NamespaceObstacle, SingleIdReason};

/// A remedy, or the fact that leads to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hint {
    /// The search path in which the command was not found.
    SearchPath(String),
    /// The root has no file at the command's path.
    NoSuchFile,
    /// This file of the root cannot be started.
    CannotStart {
        /// The path in the root.
        file: String,
        /// Why, if known.
        obstacle: Option<ExecObstacle>,
    },
    /// The kernel knows no way to execute the file.
    UnknownFormat,
    /// The user may not execute this file.
    NotExecutable(String),
    /// Names that the root's user database has.
    KnownNames {
        /// Some of them.
        names: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// kiln's user namespace has a single id.
    SingleId(SingleIdReason),
    /// The id is not in the ranges that kiln's user namespace maps.
    UnmappedId,
    /// Something refuses the namespace or the system call.
    Obstacle(NamespaceObstacle),
    /// Root lacks the capabilities to write the map of a user namespace.
    MapCapabilities,
    /// The source of a cache mount leads through a symbolic link.
    SymlinkInSource,
    /// The cache mount has no such directory yet.
    EmptyCache,
    /// A directory would cover a file, or a file a directory.
    KindMismatch,
    /// The mount around the target lacks it, and it cannot be created there.
    NoTargetInMount,
    /// What the kernel wrote to the log of the mount.
    KernelLog(String),
    /// The kernel has no overlayfs.
    NoOverlayfs,
    /// These limits exist.
    KnownLimits(Vec<String>),
    /// Only root of the host raises a hard limit.
    HardLimit,
    /// The soft limit is above the hard one.
    SoftAboveHard,
    /// The limit of processes is too low to start the command.
    ProcessLimit(u64),
    /// No helper for a private network is installed.
    NoNetworkHelper,
    /// There is no `/dev/net/tun`.
    NoTunDevice,
    /// The network helper has ended.
    NetworkHelperFailed {
        /// Which one.
        helper: NetworkHelper,
        /// Its output; may be empty.
        output: String,
    },
    /// The network helper set no route up in time.
    NetworkHelperSlow {
        /// Which one.
        helper: NetworkHelper,
        /// How long kiln waited.
        seconds: u64,
    },
    /// Another program listens on the port.
    PortInUse,
    /// The host does not have the address.
    NoSuchAddress,
    /// The port is reserved for root.
    PrivilegedPort,
}
