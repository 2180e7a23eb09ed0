//! Features that a command runs without, because the host does not allow them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A feature that a command runs without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// The feature.
    pub feature: Feature,
    /// The cause, as the system or the configuration gives it.
    pub cause: String,
}

impl Fallback {
    /// `feature` is left out because of `cause`.
    pub(super) fn new(feature: Feature, cause: impl fmt::Display) -> Self {
        Self { feature, cause: cause.to_string() }
    }
}

/// An optional feature of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feature {
    /// A UTS namespace.
    UtsNamespace,
    /// A cgroup namespace.
    CgroupNamespace,
    /// This host name.
    HostName(String),
    /// A `/proc` of its own pid namespace.
    Proc,
    /// A system mount at this path.
    Mount(String),
    /// A loopback interface that is up.
    Loopback,
    /// Calls that change files are stopped before they are executed.
    FileWatch,
    /// Access to device nodes that the command creates.
    DeviceNodes,
    /// A limit enforced by a control group.
    Limit(Limit),
    /// Membership in the control group that was created for it.
    ControlGroup,
    /// The authorities to add, in this keystore of Java's.
    Keystore(String),
}

/// A limit enforced by a control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Bytes of memory.
    Memory,
    /// Bytes of swap.
    Swap,
    /// CPU time per period.
    CpuTime,
    /// Relative weight of CPU time.
    CpuWeight,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Number of processes.
    Processes,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UtsNamespace => f.write_str("a UTS namespace"),
            Self::CgroupNamespace => f.write_str("a cgroup namespace"),
            Self::HostName(name) => write!(f, "the host name {name:?}"),
            Self::Proc => f.write_str("a /proc of its own"),
            Self::Mount(path) => f.write_str(path),
            Self::Loopback => f.write_str("a loopback interface"),
            Self::FileWatch => f.write_str("seccomp notification: a change through one hard link changes all of them"),
            Self::DeviceNodes => f.write_str("access to the device nodes that it makes"),
            Self::Limit(limit) => write!(f, "the {limit}"),
            Self::ControlGroup => f.write_str("its limits"),
            Self::Keystore(path) => write!(f, "the given authorities in {path}"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory limit",
            Self::Swap => "swap limit",
            Self::CpuTime => "CPU limit",
            Self::CpuWeight => "CPU weight",
            Self::Cpuset => "CPU set",
            Self::Processes => "process limit",
        })
    }
}
