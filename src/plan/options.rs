//! What the user said beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::step::{ImageRequest, Network};

/// The configs of images, as far as they are known.
pub type Configs = BTreeMap<ImageRequest, ImageConfig>;

/// Everything besides the Dockerfile and the base images' configs that decides a plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`, with values; one that was given without a value and is not in the environment is absent.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage's name or index; the last stage if absent (F-10).
    pub target: Option<String>,
    /// Every stage, not only those the target needs: what `check` without a target looks at (O-6).
    pub all_stages: bool,
    /// An image whose config is not given is assumed to say nothing, instead of being asked for: what `check` does
    /// without a network.
    pub assume_bases: bool,
    /// `--platform`: what the image is for.
    pub platform: Platform,
    /// `platform` was asked for, so that the image says it is for that platform whatever its base says.
    pub platform_given: bool,
    /// What this machine runs.
    pub build_platform: Platform,
    /// `--build-context`, by name (F-11); `name::os/arch` for one platform only.
    pub contexts: BTreeMap<String, NamedContext>,
    /// When what was fetched for the main context changed last: a commit's time, a server's `Last-Modified`, the latest
    /// file of an archive. What SOURCE_DATE_EPOCH=context means.
    pub context_time: Option<Timestamp>,
    /// The same of named contexts, and of a stage that SOURCE_DATE_EPOCH names ([`super::EpochSource`]). `None`: nothing says
    /// it; what is not here was not asked for.
    pub context_times: BTreeMap<String, Option<Timestamp>>,
    /// `--label`: wins over LABEL (O-51).
    pub labels: BTreeMap<String, String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages, in any case.
    pub no_cache_filter: BTreeSet<String>,
    /// `--network`: what RUN without `--network` gets.
    pub network: Network,
    /// `--allow network.host`.
    pub allow_host_network: bool,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// How many bytes variables may take, in all the places where they are used: doubling one with every line must not
    /// eat the machine.
    pub variable_limit: usize,
}

impl Options {
    /// A plain build of the last stage for this machine.
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            all_stages: false,
            assume_bases: false,
            build_platform: platform.clone(),
            platform,
            platform_given: false,
            contexts: BTreeMap::new(),
            context_time: None,
            context_times: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: BTreeSet::new(),
            network: Network::Default,
            allow_host_network: false,
            allow_insecure: false,
            variable_limit: 64 << 20,
        }
    }
}

/// What `--build-context NAME=…` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedContext {
    /// A directory that the caller opened.
    Local,
    /// `docker-image://…`
    Image(Reference),
    /// `oci-layout://…`: the text after `//`.
    Layout(String),
    /// `docker-image://scratch`: nothing.
    Scratch,
}
