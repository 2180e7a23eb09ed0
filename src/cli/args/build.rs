//! The arguments of `kiln build` and `kiln check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::snapshot::Method;

use super::{CaArgs, ContainerArgs, ForeignArgs, Format, RegistryArgs};

const STEPS: &str = "Steps";
const RESULT: &str = "Result";
const MESSAGES: &str = "Messages";

/// Arguments of `kiln build`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// Files that the build may read: a directory, archive, git repository or URL
    ///
    /// - reads an archive or a Dockerfile from standard input. A repository is given as URL#REF:DIR.
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(in crate::cli) context: String,

    /// Name the image
    #[arg(long, short = 't', value_name = "NAME[:TAG]")]
    pub(in crate::cli) tag: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    /// Add a context that FROM and COPY --from can name
    ///
    /// SOURCE is a directory, an archive, a git repository, a URL, an image (docker-image://NAME) or an image layout
    /// (oci-layout://DIR, with :TAG if it holds several). A stage or an image of that name is replaced.
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(in crate::cli) build_context: Vec<String>,

    /// Write the image or its files to PATH
    ///
    /// TYPE is oci or docker (an archive of the image), oci-layout (a directory), tar or local (the files alone, as an
    /// archive or a directory). dest=- writes an archive to standard output. The image is also stored. type=registry is
    /// --push; type=image takes name=NAME and push=true.
    #[arg(long, short = 'o', value_name = "type=TYPE,dest=PATH")]
    pub(in crate::cli) output: Vec<String>,

    /// Push the image under each of its names
    #[arg(long)]
    pub(in crate::cli) push: bool,

    /// Build for this platform
    ///
    /// The default is the platform of this machine. Others are not emulated.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) foreign: ForeignArgs,

    /// Pass a file or variable to RUN --mount=type=secret
    ///
    /// No layer, cache key or history holds a secret. At most 500 KiB.
    #[arg(long, value_name = "id=ID[,src=FILE]", help_heading = STEPS)]
    pub(in crate::cli) secret: Vec<String>,

    /// Pass an agent or keys to RUN --mount=type=ssh
    ///
    /// Without a value, the agent of SSH_AUTH_SOCK. Keys are loaded into an agent that ends with the build.
    #[arg(long, value_name = "ID[=SOCKET|KEY,…]", help_heading = STEPS)]
    pub(in crate::cli) ssh: Vec<String>,

    /// Set the network of RUN steps
    #[arg(long, value_name = "MODE", value_enum, default_value_t, help_heading = STEPS)]
    pub(in crate::cli) network: NetworkArg,

    /// Grant an entitlement
    ///
    /// network.host, security.insecure, device (every device) or device=NAME.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = STEPS)]
    pub(in crate::cli) allow: Vec<String>,

    /// Run every step again
    #[arg(long, help_heading = STEPS)]
    pub(in crate::cli) no_cache: bool,

    /// Run every step of this stage again
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) no_cache_filter: Vec<String>,

    /// Run a RUN step again if its result is older
    ///
    /// PATTERN matches the whole instruction as progress shows it, with its options; * stands for any text, ? for any character. For
    /// example 'RUN*apt-get*=12h'. A result of unknown age is too old. Steps above run again unless the new layer equals the old one.
    #[arg(long, value_name = "PATTERN=DURATION", help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) max_age: Vec<String>,

    /// Choose what to do when a RUN fails
    #[arg(long, value_name = "ACTION", value_enum, default_value_t, help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) on_failure: OnFailure,

    /// Run this many steps at the same time
    ///
    /// The default is one per processor, at least 4.
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) jobs: Option<usize>,

    /// Stop the build after this time
    ///
    /// For example 90s, 10m or 1h30m.
    #[arg(long, value_name = "DURATION", help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) timeout: Option<String>,

    /// Choose how layers are assembled into the root of a RUN
    ///
    /// The image is the same either way.
    #[arg(long, value_name = "METHOD", value_enum, default_value_t, help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) snapshotter: SnapshotterArg,

    /// Read CDI device descriptions from this directory
    ///
    /// The default is /etc/cdi and /var/run/cdi. Used by RUN --device.
    #[arg(long, value_name = "DIR", help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) cdi_spec_dir: Vec<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) container: ContainerArgs,

    /// Use a shared cache
    ///
    /// type=registry,ref=NAME, or NAME for short; type=local,src=DIR; type=s3,bucket=NAME with region, prefix and
    /// endpoint_url, and the access key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or type=gha with scope, in a job of
    /// GitHub Actions. Several are asked in order. With mounts=ID or mounts=all, cache mounts that are not here are restored. A cache that fails is reported and not used: it never fails the build.
    #[arg(long, value_name = "CACHE", help_heading = STEPS)]
    pub(in crate::cli) cache_from: Vec<String>,

    /// Write results to a shared cache
    ///
    /// type=registry,ref=NAME, or NAME for short; type=local,dest=DIR; type=s3,bucket=NAME or type=gha as for --cache-from.
    /// With mode=max, also the steps of stages that are no part of the image. With mounts=ID, which may be repeated, or mounts=all, also what the commands leave in cache mounts. What a cache has is not written again.
    #[arg(long, value_name = "CACHE", help_heading = STEPS)]
    pub(in crate::cli) cache_to: Vec<String>,

    /// Limit the wait for shared caches at the end of the build
    #[arg(long, value_name = "DURATION", default_value = "10m", help_heading = STEPS, hide_short_help = true)]
    pub(in crate::cli) cache_timeout: String,

    /// Choose when to resolve tags at the registry
    #[arg(long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t, default_missing_value = "always", help_heading = STEPS)]
    pub(in crate::cli) pull: Pull,

    #[command(flatten)]
    pub(in crate::cli) registries: RegistryArgs,

    /// Add a label to the image
    #[arg(long, value_name = "KEY=VALUE", help_heading = RESULT, hide_short_help = true)]
    pub(in crate::cli) label: Vec<String>,

    /// Choose the compression of new layers
    #[arg(long, value_name = "KIND", value_enum, default_value_t, help_heading = RESULT, hide_short_help = true)]
    pub(in crate::cli) compression: CompressionArg,

    /// Set the compression level of new layers
    ///
    /// 1 to 12 for gzip, 1 to 22 for zstd.
    #[arg(long, value_name = "N", help_heading = RESULT, hide_short_help = true)]
    pub(in crate::cli) compression_level: Option<u32>,

    /// Write the image id to this file
    #[arg(long, value_name = "FILE", help_heading = RESULT, hide_short_help = true)]
    pub(in crate::cli) iidfile: Option<PathBuf>,

    /// Write digests and names of the image to this file, as JSON
    #[arg(long, value_name = "FILE", help_heading = RESULT, hide_short_help = true)]
    pub(in crate::cli) metadata_file: Option<PathBuf>,

    /// Choose how to show progress
    ///
    /// The default is $BUILDKIT_PROGRESS, else auto.
    #[arg(long, value_name = "STYLE", value_enum, help_heading = MESSAGES)]
    pub(in crate::cli) progress: Option<Progress>,

    /// Print only the image id
    #[arg(long, short = 'q', help_heading = MESSAGES)]
    pub(in crate::cli) quiet: bool,

    /// Check the Dockerfile without building it, like kiln check
    #[arg(long, help_heading = MESSAGES)]
    pub(in crate::cli) check: bool,

    /// Print the planned steps without building them
    #[arg(long, help_heading = MESSAGES, hide_short_help = true)]
    pub(in crate::cli) print_plan: bool,

    /// Print information about the Dockerfile without building it
    ///
    /// METHOD is check, outline or targets.
    #[arg(
        long,
        value_name = "METHOD[,format=json]",
        conflicts_with = "check",
        help_heading = MESSAGES,
        hide_short_help = true
    )]
    pub(in crate::cli) call: Option<String>,
}

/// The Dockerfile, its target and build arguments: options that `build`, `check` and `cache explain` share.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    /// Read this Dockerfile
    ///
    /// A path, a URL, or - for standard input. The default is Dockerfile in the context. If the context is not a local
    /// directory, the path is inside the context.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(in crate::cli) file: Option<String>,

    /// Build up to this stage
    ///
    /// A name or a number. The default is the last stage. Stages that the target does not need are not built.
    #[arg(long, value_name = "STAGE")]
    pub(in crate::cli) target: Option<String>,

    /// Set the value of an ARG
    ///
    /// Without a value, it is taken from the environment.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(in crate::cli) build_arg: Vec<String>,
}

/// Arguments of `kiln check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// Files that the build may read: a directory, archive, git repository or URL
    ///
    /// - reads an archive or a Dockerfile from standard input. A repository is given as URL#REF:DIR.
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(in crate::cli) context: String,

    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    /// Check for this platform
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<String>,

    /// Grant an entitlement
    ///
    /// No effect: a check runs nothing. Accepted so that scripts can share options with kiln build.
    #[arg(long, value_name = "NAME", value_delimiter = ',', hide_short_help = true)]
    pub(in crate::cli) allow: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) ca: CaArgs,

    /// List the arguments, secrets and cache mounts of the target
    #[arg(long, conflicts_with = "targets")]
    pub(in crate::cli) outline: bool,

    /// List the stages
    #[arg(long)]
    pub(in crate::cli) targets: bool,

    /// Choose the output format
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum NetworkArg {
    /// The network of the host; for kiln run with --publish, private
    #[default]
    Default,
    /// The network of the host
    Host,
    /// Loopback only
    None,
    /// A network of its own, connected through pasta or slirp4netns
    Private,
}

/// `--snapshotter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SnapshotterArg {
    /// Overlayfs where it works, else copies
    #[default]
    Auto,
    /// Overlayfs, or fail
    Overlay,
    /// A copy of all layers for every command
    Copy,
}

impl SnapshotterArg {
    /// The requested method; `None` stands for the best one that works on this host.
    pub(in crate::cli) fn method(self, user_namespace: bool) -> Option<Method> {
        match self {
            SnapshotterArg::Auto => None,
            SnapshotterArg::Overlay => Some(Method::Overlay { userxattr: user_namespace }),
            SnapshotterArg::Copy => Some(Method::Copy),
        }
    }
}

/// `--on-failure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnFailure {
    /// Report the failure and stop
    #[default]
    Stop,
    /// Open a shell with the files, environment and mounts of the failed command
    Shell,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Pull {
    /// Resolve every tag at the registry
    #[value(alias = "true")]
    Always,
    /// Resolve tags that the store does not have
    #[default]
    #[value(alias = "false")]
    Missing,
    /// Use only images in the store
    Never,
}

impl From<Pull> for crate::engine::Pull {
    fn from(when: Pull) -> Self {
        match when {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
        }
    }
}

/// `--compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum CompressionArg {
    /// Accepted by every registry and runtime
    #[default]
    Gzip,
    /// Smaller and faster
    Zstd,
    /// Plain tar
    Uncompressed,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Progress {
    /// A live view on a terminal, else plain
    #[default]
    #[value(alias = "tty")]
    Auto,
    /// One line per event
    Plain,
    /// One JSON object per line
    #[value(alias = "rawjson")]
    Json,
    /// Only errors, and the image id on standard output
    #[value(alias = "none")]
    Quiet,
}
