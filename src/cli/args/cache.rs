//! The arguments of the commands that deal with the cache.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// Arguments of `kiln cache`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheCommand {
    /// List what takes space in the store.
    Ls(CacheLsArgs),
    /// Remove what can be built again; all images stay.
    Prune(PruneArgs),
    /// What RUN --mount=type=cache keeps between builds.
    Mounts(MountsArgs),
}

/// Arguments of `kiln cache ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheLsArgs {
    /// Show ids in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln prune` and `kiln cache prune`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Also what named images are built from again faster, and cache mounts
    #[arg(short, long)]
    pub(in crate::cli) all: bool,

    /// Remove, longest unused first, only until the store takes no more than this
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) keep_storage: Option<String>,

    /// Only say what would go
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,

    /// Nothing: kiln never asks back. Taken because scripts written for Docker say it
    #[arg(short, long)]
    pub(in crate::cli) force: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln cache mounts`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: MountsCommand,
}

/// What to do with cache mounts.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MountsCommand {
    /// List cache mounts.
    Ls(MountsLsArgs),
    /// Write cache mounts to a tar archive, for the next machine.
    Export(MountsExportArgs),
    /// Take cache mounts from an archive that export wrote; those of the same ids are replaced.
    Import(MountsImportArgs),
    /// Remove cache mounts.
    Rm(MountsRmArgs),
}

/// Arguments of `kiln cache mounts ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsLsArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln cache mounts export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsExportArgs {
    /// Ids of cache mounts [default: all]
    #[arg(value_name = "ID")]
    pub(in crate::cli) ids: Vec<String>,

    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
}

/// Arguments of `kiln cache mounts import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsImportArgs {
    /// An archive, in any compression; - for standard input
    #[arg(value_name = "TAR|-")]
    pub(in crate::cli) source: PathBuf,
}

/// Arguments of `kiln cache mounts rm`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MountsRmArgs {
    /// Ids of cache mounts
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(in crate::cli) ids: Vec<String>,

    /// All of them
    #[arg(long, conflicts_with = "ids")]
    pub(in crate::cli) all: bool,
}
