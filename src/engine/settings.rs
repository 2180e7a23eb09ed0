//! How to build: what no plan says and no key holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::layer::Compression;
use crate::sandbox::{Resources, Rlimit};
use crate::snapshot::Method;
use crate::transport::Proxies;

/// Decided once, by whoever read flags and environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Steps that run at once, at least 1.
    pub jobs: usize,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Only look: [`super::Error::Cold`] as soon as a step would have to run.
    pub warm_only: bool,
    /// We are root of a user namespace, not of the machine.
    pub user_namespace: bool,
    /// How roots are made; `None` = the best way that works here.
    pub snapshot: Option<Method>,
    /// What RUN without a network of its own gets.
    pub network: crate::sandbox::Network,
    /// `/etc/resolv.conf` inside.
    pub resolv_conf: Vec<u8>,
    /// Names and addresses that `/etc/hosts` inside has besides its own.
    pub hosts: Vec<(String, String)>,
    /// Bytes of `/dev/shm` inside.
    pub shm_size: u64,
    /// Limits of every RUN.
    pub rlimits: Vec<Rlimit>,
    /// Memory, CPU and process limits of every RUN.
    pub resources: Resources,
    /// Secrets by id (M-12).
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Agent sockets by id (M-17).
    pub ssh: BTreeMap<String, PathBuf>,
    /// How ADD reaches servers.
    pub proxies: Proxies,
    /// No file that ADD fetches has more bytes.
    pub max_download: u64,
    /// What git, started by ADD, may know of the environment.
    pub git_environment: Vec<(String, String)>,
    /// When the build began, in whichever process: servers are asked once in a build.
    pub began: Timestamp,
    /// Names the Dockerfile across builds: where the last keys of its steps are remembered.
    pub slots: String,
    /// How long the whole build may take.
    pub timeout: Option<Duration>,
}
