//! Build settings that are neither in the plan nor in cache keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::layer::Compression;
use crate::sandbox::{Resources, Rlimit};
use crate::snapshot::Method;
use crate::transport::{Authorities, Proxies};

/// The settings of one build, taken once from flags and environment.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Steps that run at once, at least 1.
    pub jobs: usize,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Only look steps up: [`super::Error::Cold`] as soon as one would have to run.
    pub warm_only: bool,
    /// Only explain which steps would run: nothing is recorded.
    pub explain_only: bool,
    /// The store must have all layers of the image at the end, also those found in shared caches: they are written elsewhere.
    pub needs_layers: bool,
    /// kiln is root of a user namespace, not of the host.
    pub user_namespace: bool,
    /// How roots are made; `None` = the best method that works on this host.
    pub snapshot: Option<Method>,
    /// The network of a RUN that does not choose one.
    pub network: crate::sandbox::Network,
    /// The content of `/etc/resolv.conf` in the sandbox.
    pub resolv_conf: Vec<u8>,
    /// Names and addresses added to `/etc/hosts` in the sandbox.
    pub hosts: Vec<(String, String)>,
    /// Size of `/dev/shm` in the sandbox, in bytes.
    pub shm_size: u64,
    /// Limits of every RUN.
    pub rlimits: Vec<Rlimit>,
    /// Memory, CPU and process limits of every RUN.
    pub resources: Resources,
    /// Secrets by id (M-12).
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Agent sockets by id (M-17).
    pub ssh: BTreeMap<String, PathBuf>,
    /// Proxies that ADD uses.
    pub proxies: Proxies,
    /// Authorities that ADD and every RUN trust besides those of the system and of the image.
    pub authorities: Option<Authorities>,
    /// Maximum size of a file that ADD fetches, in bytes.
    pub max_download: u64,
    /// Environment variables for the git processes that ADD starts.
    pub git_environment: Vec<(String, String)>,
    /// When the build began, whichever process began it: each server is asked once per build.
    pub began: Timestamp,
    /// Identifies the Dockerfile across builds; the last keys of its steps are stored under this name.
    pub slots: String,
    /// How many bytes the store may take.
    pub storage_limit: Option<u64>,
    /// Time limit of the whole build.
    pub timeout: Option<Duration>,
}
