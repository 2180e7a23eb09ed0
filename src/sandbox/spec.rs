//! Everything that one command needs, as data.
//!
//! **Holds.** The caller decides everything in a [`Spec`]; `init` only executes it. It is sent through a socket, so
//! that nothing of it is visible in an argument list or environment (S-112).
//! **Order.** [`Spec::mounts`] are mounted in order; a later one may lie inside or over an earlier one (M-21).

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::raw;

/// One command and its sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The file system the command sees at `/`.
    pub rootfs: Rootfs,
    /// The command: `argv[0]` is looked up along the root's `PATH` unless it holds a `/`. Never empty.
    #[serde(with = "raw")]
    pub argv: Vec<OsString>,
    /// The whole environment. `HOME` is added from the root's `/etc/passwd` when it is not set here.
    #[serde(with = "raw")]
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, resolved inside the root, made if missing.
    #[serde(with = "raw")]
    pub cwd: PathBuf,
    /// `USER` as the config has it: empty, `name`, `uid`, `name:group`, `uid:gid`; names are looked up in the root.
    pub user: String,
    /// Supplementary group ids beyond those of the root's `/etc/group`.
    pub extra_groups: Vec<u32>,
    /// The host name in the sandbox.
    pub hostname: String,
    /// The mounts besides `/proc`, `/sys`, `/dev` and the two files below, in mount order.
    pub mounts: Vec<Mount>,
    /// `/etc/resolv.conf`, mounted read-only; `None` leaves the root's own.
    #[serde(with = "raw")]
    pub resolv_conf: Option<Vec<u8>>,
    /// `/etc/hosts`, mounted read-only; `None` leaves the root's own.
    #[serde(with = "raw")]
    pub hosts: Option<Vec<u8>>,
    /// Authorities that the command trusts besides those of the root.
    pub authorities: Option<Authorities>,
    /// Which network the command sees.
    pub network: Network,
    /// The restrictions of the command.
    pub security: Security,
    /// Resource limits to set; others are inherited.
    pub rlimits: Vec<Rlimit>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Devices of the host in the sandbox's `/dev`, besides the usual six.
    pub devices: Vec<Device>,
    /// Memory, CPU and process limits.
    pub resources: Resources,
    /// The command is pid 1 of its pid namespace, as an init system needs. Otherwise kiln's init is, and signals have
    /// their default action on the command.
    pub pid_one: bool,
}

impl Spec {
    /// `argv` inside `rootfs`, as root, in `/`, with the host's network and nothing else mounted.
    pub fn new(rootfs: Rootfs, argv: Vec<OsString>) -> Self {
        Self {
            rootfs,
            argv,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: String::new(),
            extra_groups: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            mounts: Vec::new(),
            resolv_conf: None,
            hosts: None,
            authorities: None,
            network: Network::Host,
            security: Security::Sandbox,
            rlimits: Vec::new(),
            shm_size: 64 << 20,
            devices: Vec::new(),
            resources: Resources::default(),
            pid_one: false,
        }
    }
}

/// Authorities in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// The authorities to add.
    #[serde(with = "raw")]
    pub given: Vec<u8>,
    /// What an image without a bundle gets: authorities of the host, and those to add.
    #[serde(with = "raw")]
    pub otherwise: Vec<u8>,
}

/// Where `/` comes from. The paths are kiln's own, on the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay, mounted by the init process in its own mount namespace: the host never sees it.
    Overlay {
        /// Read-only layers, topmost first; may be empty.
        #[serde(with = "raw")]
        lowers: Vec<PathBuf>,
        /// Receives the changes; its mode, owner and times are those of `/`.
        #[serde(with = "raw")]
        upper: PathBuf,
        /// Overlay's work directory: empty, same file system as `upper`.
        #[serde(with = "raw")]
        work: PathBuf,
        /// A path on the layers' file system that does not exist yet. It becomes the lowest layer if mount targets
        /// are missing, so that none is created in `upper`.
        #[serde(with = "raw")]
        stub: PathBuf,
        /// Overlayfs keeps its attributes in `user.*` (in a user namespace) instead of `trusted.*`.
        userxattr: bool,
        /// Skips all syncs: after a crash, the upper directory is discarded.
        volatile: bool,
    },
    /// A plain directory, written in place. Missing mount targets are created in it and removed afterwards.
    Dir(#[serde(with = "raw")] PathBuf),
}

/// One mount over the root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: Source,
    /// Where: an absolute path inside the root, symlinks followed inside the root only (S-18).
    #[serde(with = "raw")]
    pub target: PathBuf,
    /// Whether writes fail.
    pub readonly: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// A file or directory of the host that the user named.
    Path(#[serde(with = "raw")] PathBuf),
    /// A file or directory of the host that a device comes with.
    Driver {
        /// Where it is.
        #[serde(with = "raw")]
        path: PathBuf,
        /// Set-id bits have no effect.
        nosuid: bool,
        /// Nothing in it can be executed.
        noexec: bool,
    },
    /// `subpath` resolved inside the directory `root` by the kernel at mount time: links in it cannot lead out (S-2).
    Inside {
        /// A directory of kiln's own.
        #[serde(with = "raw")]
        root: PathBuf,
        /// A path in it, which is not trusted.
        #[serde(with = "raw")]
        subpath: PathBuf,
        /// A link anywhere in `subpath` is an error instead of being followed inside `root` (M-8).
        no_symlinks: bool,
    },
    /// A stack of layers, topmost first, writable copy-up into `upper` or read-only without one
    /// (`--mount=type=bind,from=…`); `subpath` is resolved inside the merged tree.
    Layers {
        /// Layers, topmost first.
        #[serde(with = "raw")]
        lowers: Vec<PathBuf>,
        /// Two empty scratch directories; `None` = read-only.
        scratch: Option<Scratch>,
        /// Overlayfs keeps its attributes in `user.*`.
        userxattr: bool,
        /// A path in the merged tree.
        #[serde(with = "raw")]
        subpath: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes it may hold; `None` = half the machine's memory.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
    },
    /// A file that exists only in memory, on a private tmpfs (secrets, generated files).
    Data {
        /// Its content.
        #[serde(with = "raw")]
        bytes: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A directory of files that exist only in memory: `(name, content, mode)`.
    Files(Vec<DataFile>),
    /// A listening unix socket of kiln's, by host path; in the sandbox it has this mode and owner (`type=ssh`).
    Socket {
        /// The socket on the host.
        #[serde(with = "raw")]
        path: PathBuf,
        /// Its mode in the sandbox.
        mode: u32,
        /// Its owner in the sandbox.
        uid: u32,
        /// Its group in the sandbox.
        gid: u32,
    },
}

/// One file of [`Source::Files`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DataFile {
    /// Its name, without `/`.
    #[serde(with = "raw")]
    pub name: OsString,
    /// Its content.
    #[serde(with = "raw")]
    pub bytes: Vec<u8>,
    /// Its mode.
    pub mode: u32,
}

/// Where a writable mount of layers keeps its changes until they are discarded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scratch {
    /// Empty directory.
    #[serde(with = "raw")]
    pub upper: PathBuf,
    /// Empty directory on the same file system.
    #[serde(with = "raw")]
    pub work: PathBuf,
}

/// Which network the command sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// A network of its own with only a loopback interface.
    None,
    /// A network of its own that is connected by a user-mode helper (`pasta` or `slirp4netns`).
    Private,
}

/// A TCP port of the host that is forwarded to one in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The address on the host; `None` = all addresses, including IPv6 if the host has it.
    pub address: Option<IpAddr>,
    /// The port on the host; `None` = a free one.
    pub host: Option<u16>,
    /// The port in the sandbox, on the loopback address.
    pub inside: u16,
}

/// The restrictions of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// Docker's default capabilities, seccomp profile, masked and read-only paths.
    Sandbox,
    /// Every capability that kiln itself has, no seccomp filter, the host's devices, nothing masked.
    Insecure,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// As `ulimit` options name it: `nofile`, `nproc`, `core`, …
    pub name: String,
    /// The soft limit; `None` = unlimited.
    pub soft: Option<u64>,
    /// The hard limit; `None` = unlimited.
    pub hard: Option<u64>,
}

/// A host device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    #[serde(with = "raw")]
    pub host: PathBuf,
    /// Path below `/dev` in the sandbox, without the `/dev/`.
    #[serde(with = "raw")]
    pub name: PathBuf,
    /// Whether it is an error if the host lacks it; otherwise it is left out.
    pub required: bool,
}

/// Memory, CPU and process limits, enforced by a control group if one can be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; `-1` = unlimited swap.
    pub memory_swap: Option<i64>,
    /// Microseconds of CPU time per period.
    pub cpu_quota: Option<u64>,
    /// Microseconds in a period.
    pub cpu_period: Option<u64>,
    /// Relative weight, 2…262144 (1024 = one share).
    pub cpu_shares: Option<u64>,
    /// CPUs, as `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0-1`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Resources {
    /// Nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// The exit status that a shell would report: 128+n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    /// It exited with 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}
