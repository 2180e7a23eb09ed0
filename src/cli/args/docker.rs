//! Options that people bring from `docker build`, `buildah` and kaniko: hidden, and each answered (`request::docker`).

use clap::Args;

/// What others have and kiln has not, or has always.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = None)]
pub(in crate::cli) struct DockerArgs {
    /// Nothing is left over in any case
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) rm: Option<bool>,
    /// Nothing is left over in any case
    #[arg(long, hide = true)]
    pub(in crate::cli) force_rm: bool,
    /// The image is in the store in any case
    #[arg(long, hide = true)]
    pub(in crate::cli) load: bool,
    /// There is nothing to send
    #[arg(long, hide = true)]
    pub(in crate::cli) compress: bool,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) push: bool,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) cache_from: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) cache_to: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) provenance: Option<String>,
    /// See `request::docker`
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) sbom: Option<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) attest: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) annotation: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) builder: Option<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) policy: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) cgroup_parent: Option<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) isolation: Option<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) security_opt: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) squash: bool,
    /// See `request::docker`
    #[arg(long, short = 'D', hide = true)]
    pub(in crate::cli) debug: bool,
    /// See `request::docker`
    #[arg(long, short = 'v', hide = true)]
    pub(in crate::cli) volume: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) layers: bool,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) format: Option<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) destination: Vec<String>,
    /// See `request::docker`
    #[arg(long, hide = true)]
    pub(in crate::cli) dockerfile: Option<String>,
}
