//! The arguments of `kiln build` and `kiln check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::snapshot::Method;

use super::{AroundArgs, ForeignArgs, Format};

const WHAT: &str = "What to build";
const RUNNING: &str = "Running commands";
const CACHE: &str = "Cache";
const RESULT: &str = "Result";
const MESSAGES: &str = "Messages";

/// Arguments of `kiln build`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// What the build may read: a directory, an archive, a git repository, a URL, or - for an archive or Dockerfile on
    /// standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(in crate::cli) context: String,

    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    #[command(flatten)]
    pub(in crate::cli) foreign: ForeignArgs,

    /// Build for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = WHAT)]
    pub(in crate::cli) platform: Option<String>,

    /// Use another directory, archive, git repository, URL, image (docker-image://REF), layout (oci-layout://DIR, with :TAG
    /// if it has several) or stage for NAME
    #[arg(long, value_name = "NAME=SOURCE", help_heading = WHAT)]
    pub(in crate::cli) build_context: Vec<String>,

    /// Network of commands: the host's, none but loopback, or one of its own
    #[arg(long, value_name = "MODE", value_enum, default_value_t, help_heading = RUNNING)]
    pub(in crate::cli) network: NetworkArg,

    /// A file or variable that commands may read through RUN --mount=type=secret
    #[arg(long, value_name = "id=ID[,src=FILE|,env=VAR]", help_heading = RUNNING)]
    pub(in crate::cli) secret: Vec<String>,

    /// An agent or keys that commands may use through RUN --mount=type=ssh
    #[arg(long, value_name = "default|ID[=SOCKET|KEY[,KEY]]", help_heading = RUNNING)]
    pub(in crate::cli) ssh: Vec<String>,

    /// Permit what a Dockerfile may not do by itself: network.host, security.insecure, device or device=NAME
    #[arg(long, value_name = "WHAT", value_delimiter = ',', help_heading = RUNNING)]
    pub(in crate::cli) allow: Vec<String>,

    /// Look in this directory for the descriptions of devices (CDI) that RUN --device names [default: /etc/cdi and
    /// /var/run/cdi]
    #[arg(long, value_name = "DIR", help_heading = RUNNING)]
    pub(in crate::cli) cdi_spec_dir: Vec<PathBuf>,

    /// Steps to run at the same time [default: one per processor, at least 4]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = RUNNING)]
    pub(in crate::cli) jobs: Option<usize>,

    /// How layers become a command's files: stacked by overlayfs, or copied; the image is the same
    #[arg(long, value_name = "HOW", value_enum, default_value_t, help_heading = RUNNING)]
    pub(in crate::cli) snapshotter: SnapshotterArg,

    /// Give up after this time, for example 90s, 10m or 1h
    #[arg(long, value_name = "DURATION", help_heading = RUNNING)]
    pub(in crate::cli) timeout: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) around: AroundArgs,

    /// What to do when a command fails: stop, or open a shell in its files
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, help_heading = RUNNING)]
    pub(in crate::cli) on_failure: OnFailure,

    /// Run every step, whatever the cache holds
    #[arg(long, help_heading = CACHE)]
    pub(in crate::cli) no_cache: bool,

    /// Run every step of this stage, whatever the cache holds
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = CACHE)]
    pub(in crate::cli) no_cache_filter: Vec<String>,

    /// When to ask the registry what a tag means
    #[arg(long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t, default_missing_value = "always", help_heading = CACHE)]
    pub(in crate::cli) pull: Pull,

    /// Speak to this registry without TLS, or without checking its certificate
    #[arg(long, value_name = "HOST[:PORT]", help_heading = CACHE)]
    pub(in crate::cli) insecure_registry: Vec<String>,

    /// Ask this host first for images of Docker Hub, or of the registry named before it
    #[arg(long, value_name = "[REGISTRY=]HOST[:PORT]", help_heading = CACHE)]
    pub(in crate::cli) registry_mirror: Vec<String>,

    /// Name the image
    #[arg(long, short = 't', value_name = "NAME[:TAG]", help_heading = RESULT)]
    pub(in crate::cli) tag: Vec<String>,

    /// Add a label to the image
    #[arg(long, value_name = "KEY=VALUE", help_heading = RESULT)]
    pub(in crate::cli) label: Vec<String>,

    /// Also write the result: as an archive (type=oci or docker), a layout (type=oci-layout), or the files alone
    /// (type=tar or local)
    #[arg(long, short = 'o', value_name = "type=TYPE,dest=PATH", help_heading = RESULT)]
    pub(in crate::cli) output: Vec<String>,

    /// How new layers are compressed
    #[arg(long, value_name = "KIND", value_enum, default_value_t, help_heading = RESULT)]
    pub(in crate::cli) compression: CompressionArg,

    /// How hard new layers are compressed: 1 to 12 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "N", help_heading = RESULT)]
    pub(in crate::cli) compression_level: Option<u32>,

    /// Write the image id to a file
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub(in crate::cli) iidfile: Option<PathBuf>,

    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub(in crate::cli) metadata_file: Option<PathBuf>,

    /// How progress is shown [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_name = "HOW", value_enum, help_heading = MESSAGES)]
    pub(in crate::cli) progress: Option<Progress>,

    /// Print nothing but the image id
    #[arg(long, short = 'q', help_heading = MESSAGES)]
    pub(in crate::cli) quiet: bool,

    /// Print the steps that would be taken, and stop
    #[arg(long, help_heading = MESSAGES)]
    pub(in crate::cli) print_plan: bool,

    /// Check the Dockerfile and stop, like kiln check
    #[arg(long, help_heading = MESSAGES)]
    pub(in crate::cli) check: bool,

    /// Do not build: check, outline or targets, also as JSON
    #[arg(long, value_name = "METHOD[,format=json]", conflicts_with = "check", help_heading = MESSAGES)]
    pub(in crate::cli) call: Option<String>,
}

/// Which Dockerfile, and with what arguments: common to `build` and `check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    /// The Dockerfile, also by URL; - is standard input [default: CONTEXT/Dockerfile]
    #[arg(long, short = 'f', value_name = "FILE", help_heading = WHAT)]
    pub(in crate::cli) file: Option<String>,

    /// The stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = WHAT)]
    pub(in crate::cli) target: Option<String>,

    /// Set an ARG; without a value, to that of the environment variable
    #[arg(long, value_name = "KEY[=VALUE]", help_heading = WHAT)]
    pub(in crate::cli) build_arg: Vec<String>,
}

/// Arguments of `kiln check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// What the build may read: a directory, an archive, a git repository, a URL, or - for an archive or Dockerfile on
    /// standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(in crate::cli) context: String,

    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    /// Check for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = WHAT)]
    pub(in crate::cli) platform: Option<String>,

    /// Permit what a Dockerfile may not do by itself; no effect: a check does not run anything (accepted for scripts that
    /// share options with kiln build)
    #[arg(long, value_name = "WHAT", value_delimiter = ',', help_heading = WHAT, hide_short_help = true)]
    pub(in crate::cli) allow: Vec<String>,

    /// List the target's arguments, secrets and mounts instead
    #[arg(long, conflicts_with = "targets")]
    pub(in crate::cli) outline: bool,

    /// List the stages instead
    #[arg(long)]
    pub(in crate::cli) targets: bool,

    /// How to print the answer
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum NetworkArg {
    /// The host's
    #[default]
    Default,
    /// The host's
    Host,
    /// Loopback only
    None,
    /// Its own, connected through pasta or slirp4netns
    Private,
}

/// `--snapshotter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SnapshotterArg {
    /// Overlayfs if it works here, else copies
    #[default]
    Auto,
    /// Overlayfs, or fail
    Overlay,
    /// A copy of all layers for every command
    Copy,
}

impl SnapshotterArg {
    /// How roots are to be made; none: as it can be done here.
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
    /// Report and stop
    #[default]
    Stop,
    /// Open a shell in the failed step's files
    Shell,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Pull {
    /// Ask for every tag
    #[value(alias = "true")]
    Always,
    /// Ask for images that are not in the store
    #[default]
    #[value(alias = "false")]
    Missing,
    /// Use only images in the store
    Never,
}

/// `--compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum CompressionArg {
    /// What every registry and runtime takes
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
    /// One line per fact, in order
    Plain,
    /// One JSON object per line
    #[value(alias = "rawjson")]
    Json,
    /// Nothing but errors; the image id on standard output
    #[value(alias = "none")]
    Quiet,
}
