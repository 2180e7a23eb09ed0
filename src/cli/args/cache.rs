//! The arguments of `kiln cache` and `kiln prune`.

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches as _, Subcommand};

use super::{BuildArgs, CompressionArg, Format, NetworkArg, Pull, RegistryArgs, SourceArgs, examples};

/// Arguments of `kiln cache`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: CacheCommand,
}

/// The subcommands of `kiln cache`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheCommand {
    /// Explain which steps a build would run, without running them
    #[command(after_help = examples::CACHE_EXPLAIN)]
    Explain(Box<CacheExplainArgs>),
    /// Show the disk usage of the store
    #[command(after_help = examples::CACHE_LS)]
    Ls(CacheLsArgs),
    /// Remove build cache; images stay
    #[command(after_help = examples::CACHE_PRUNE)]
    Prune(PruneArgs),
    /// Manage the cache mounts of RUN
    #[command(after_help = examples::MOUNTS)]
    Mounts(MountsArgs),
}

/// Arguments of `kiln cache explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheExplainArgs {
    /// Files that the build may read: a directory, archive, git repository or URL
    ///
    /// - reads an archive or a Dockerfile from standard input. A repository is given as URL#REF:DIR.
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(in crate::cli) context: String,

    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    /// Add a context that FROM and COPY --from can name
    ///
    /// As in kiln build.
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(in crate::cli) build_context: Vec<String>,

    /// Build for this platform
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<String>,

    /// Grant an entitlement
    ///
    /// As in kiln build.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(in crate::cli) allow: Vec<String>,

    /// Pass a file or variable to ADD and RUN
    ///
    /// As in kiln build. ADD needs it to ask servers.
    #[arg(long, value_name = "id=ID[,src=FILE]")]
    pub(in crate::cli) secret: Vec<String>,

    /// Set the network of RUN steps
    ///
    /// As in kiln build.
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(in crate::cli) network: NetworkArg,

    /// Run every step again
    #[arg(long)]
    pub(in crate::cli) no_cache: bool,

    /// Run every step of this stage again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(in crate::cli) no_cache_filter: Vec<String>,

    /// Run a RUN step again if its result is older
    ///
    /// As in kiln build.
    #[arg(long, value_name = "PATTERN=DURATION")]
    pub(in crate::cli) max_age: Vec<String>,

    /// Choose the compression of new layers
    ///
    /// As in kiln build. A step is cached in any compression: its layer is compressed again.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub(in crate::cli) compression: CompressionArg,

    /// Use a shared cache
    ///
    /// As in kiln build.
    #[arg(long, value_name = "CACHE")]
    pub(in crate::cli) cache_from: Vec<String>,

    /// Choose when to resolve tags at the registry
    #[arg(long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t, default_missing_value = "always")]
    pub(in crate::cli) pull: Pull,

    #[command(flatten)]
    pub(in crate::cli) registries: RegistryArgs,

    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

impl CacheExplainArgs {
    /// The build that is asked about.
    pub(in crate::cli) fn to_build(&self) -> BuildArgs {
        let matches = BuildArgs::augment_args(Command::new("build")).try_get_matches_from(["build"]);
        let defaults = matches.and_then(|matches| BuildArgs::from_arg_matches(&matches));
        BuildArgs {
            context: self.context.clone(),
            source: self.source.clone(),
            build_context: self.build_context.clone(),
            platform: self.platform.clone(),
            allow: self.allow.clone(),
            secret: self.secret.clone(),
            network: self.network,
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            max_age: self.max_age.clone(),
            compression: self.compression,
            cache_from: self.cache_from.clone(),
            pull: self.pull,
            registries: self.registries.clone(),
            ..defaults.expect("every option has a default")
        }
    }
}

/// Arguments of `kiln cache ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheLsArgs {
    /// Show ids in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,

    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln prune` and `kiln cache prune`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Remove the build cache of tagged images and cache mounts too
    #[arg(short, long)]
    pub(in crate::cli) all: bool,

    /// Stop when the store takes no more than this
    ///
    /// The least recently used data is removed first.
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) keep_storage: Option<String>,

    /// Remove only what was not used since a time: until=24h, until=DATE
    ///
    /// A duration (24h, 90m), a time such as 2030-01-31T00:00:00Z, or seconds since 1970. Data that nothing needs is removed
    /// whatever its age.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(in crate::cli) filter: Vec<String>,

    /// Report what would be removed
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,

    /// Skip the confirmation
    ///
    /// No effect: kiln never asks for one. Accepted for Docker compatibility.
    #[arg(short, long, hide_short_help = true)]
    pub(in crate::cli) force: bool,

    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln cache mounts`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: MountsCommand,
}

/// The subcommands of `kiln cache mounts`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MountsCommand {
    /// List cache mounts
    #[command(after_help = examples::MOUNTS_LS)]
    Ls(MountsLsArgs),
    /// Write cache mounts to a tar archive
    #[command(after_help = examples::MOUNTS_EXPORT)]
    Export(MountsExportArgs),
    /// Read cache mounts from an exported archive
    ///
    /// Cache mounts with the same ids are replaced.
    #[command(after_help = examples::MOUNTS_IMPORT)]
    Import(MountsImportArgs),
    /// Remove cache mounts
    #[command(after_help = examples::MOUNTS_RM)]
    Rm(MountsRmArgs),
}

/// Arguments of `kiln cache mounts ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsLsArgs {
    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln cache mounts export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsExportArgs {
    /// Ids of cache mounts (default: all)
    #[arg(value_name = "ID")]
    pub(in crate::cli) ids: Vec<String>,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
}

/// Arguments of `kiln cache mounts import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsImportArgs {
    /// An archive, compressed or not, or - for standard input
    #[arg(value_name = "TAR|-")]
    pub(in crate::cli) source: PathBuf,
}

/// Arguments of `kiln cache mounts rm`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsRmArgs {
    /// Ids of cache mounts
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(in crate::cli) ids: Vec<String>,

    /// Remove all cache mounts
    #[arg(long, conflicts_with = "ids")]
    pub(in crate::cli) all: bool,
}

/// Arguments of `kiln fsck`.
#[derive(Debug, Args)]
pub(in crate::cli) struct FsckArgs {
    /// Remove what is damaged, and fetch again what came from a registry
    ///
    /// Cache records, unpacked layers and other derived data are made again when a build needs them. Running builds go on.
    #[arg(long)]
    pub(in crate::cli) repair: bool,

    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}
