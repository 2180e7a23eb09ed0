//! The options of a build, besides the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::dockerfile::Pattern;
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::step::{ImageRequest, Network};

/// The image configs known so far.
pub type Configs = BTreeMap<ImageRequest, ImageConfig>;

/// The age at which results of some RUN instructions are too old.
#[derive(Clone, Debug)]
pub struct MaxAge {
    /// The pattern, as it was given.
    pub pattern: String,
    matched: Pattern,
    /// The age.
    pub age: Duration,
}

impl MaxAge {
    /// For the RUN instructions that `pattern` matches as a whole. Err: the character after a `\` that may not be escaped.
    pub(crate) fn new(pattern: &str, age: Duration) -> Result<Self, String> {
        Ok(Self { pattern: pattern.to_owned(), matched: Pattern::new(pattern)?, age })
    }

    /// Whether it is for the step of this name: `[builder 2/5] RUN make`.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        let text = name.split_once("] ").map_or(name, |(_, text)| text);
        let is_run = text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("RUN "));
        is_run && self.matched.matches(text)
    }
}

/// Everything that determines a plan besides the Dockerfile and the configs of base images.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`, by name. An argument given without a value that the environment lacks is absent.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage's name or index; the last stage if absent (F-10).
    pub target: Option<String>,
    /// Plan every stage, not only those the target needs: for `check` without a target (O-6).
    pub all_stages: bool,
    /// Assume an empty config for an image whose config is unknown, instead of requesting it: for `check` without a
    /// network.
    pub assume_bases: bool,
    /// `--platform`: the platform of the image.
    pub platform: Platform,
    /// `--platform` was given: the image config names that platform, whatever the base image says.
    pub platform_given: bool,
    /// The platform of this machine.
    pub build_platform: Platform,
    /// `--build-context`, by name (F-11); `name::os/arch` for one platform only.
    pub contexts: BTreeMap<String, NamedContext>,
    /// When the main context was last modified, if it was fetched: the time of a commit, a server's `Last-Modified`,
    /// the newest file of an archive. The value of SOURCE_DATE_EPOCH=context.
    pub context_time: Option<Timestamp>,
    /// The same for named contexts, and for a stage that SOURCE_DATE_EPOCH names ([`super::EpochSource`]). `None`: the
    /// time is unknown; an absent name was not looked up.
    pub context_times: BTreeMap<String, Option<Timestamp>>,
    /// `--label`, which overrides LABEL (O-51).
    pub labels: BTreeMap<String, String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stage names, case-insensitive.
    pub no_cache_filter: BTreeSet<String>,
    /// `--max-age`: instructions, with the age at which their results are too old.
    pub max_age: Vec<MaxAge>,
    /// `--network`: the network of every RUN that sets none.
    pub network: Network,
    /// `--allow network.host`.
    pub allow_host_network: bool,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// How many bytes all expanded variables may have in total. A file that doubles a variable on every line must not
    /// exhaust memory.
    pub variable_limit: usize,
}

impl Options {
    /// Default options: build the last stage for `platform`.
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
            max_age: Vec::new(),
            network: Network::Default,
            allow_host_network: false,
            allow_insecure: false,
            variable_limit: 64 << 20,
        }
    }
}

/// The value of `--build-context NAME=…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedContext {
    /// A directory that the caller opened.
    Local,
    /// `docker-image://…`
    Image(Reference),
    /// `oci-layout://…`: the text after `//`.
    Layout(String),
    /// `docker-image://scratch`: an empty file system.
    Scratch,
}
