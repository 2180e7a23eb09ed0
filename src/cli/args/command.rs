//! The commands, and the options of all of them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    BuildArgs, CacheArgs, CheckArgs, CompletionsArgs, DiffArgs, DoctorArgs, HistoryArgs, ImagesArgs, ImportArgs,
    InfoArgs, InspectArgs, LoadArgs, PruneArgs, PullArgs, RmiArgs, RunArgs, SaveArgs, TagArgs, VersionArgs,
};

/// Builds container images from Dockerfiles without a daemon.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 110, infer_subcommands = false)]
#[command(
    after_help = "Exit codes: 0 done, 1 the build failed, 2 usage, 3 this host lacks something, 101 a bug in kiln, 130 interrupted. kiln run: the command's own, 127 not found, 126 not executable, 125 anything that keeps it from starting."
)]
pub(in crate::cli) struct Cli {
    #[command(flatten)]
    pub(in crate::cli) global: Global,
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(in crate::cli) struct Global {
    /// Where images and the cache are kept [default: $KILN_ROOT, else /var/lib/kiln for root, else kiln below $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, global = true, value_name = "DIR")]
    pub(in crate::cli) root: Option<PathBuf>,
}

/// The commands. Each one's arguments and code are in its own file.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Build an image from a Dockerfile.
    Build(Box<BuildArgs>),
    /// Check a Dockerfile without building it.
    Check(CheckArgs),
    /// Run a command of an image.
    Run(Box<RunArgs>),
    /// Show what differs between two images, layers or directories.
    Diff(DiffArgs),
    /// List images.
    Images(ImagesArgs),
    /// Show everything about images, as JSON.
    Inspect(InspectArgs),
    /// Show what made an image, newest first.
    History(HistoryArgs),
    /// Give an image further names.
    Tag(TagArgs),
    /// Take names away, or forget images.
    Rmi(RmiArgs),
    /// Make a base image of a root file system.
    Import(ImportArgs),
    /// Fetch an image from a registry.
    Pull(PullArgs),
    /// Take in the images of an archive or layout.
    Load(LoadArgs),
    /// Write an image to an archive.
    Save(SaveArgs),
    /// Look at and carry around what builds keep for the next build.
    Cache(CacheArgs),
    /// Remove what no named image needs.
    Prune(PruneArgs),
    /// Say what works on this host, and what stands in the way of the rest.
    Doctor(DoctorArgs),
    /// Show what kiln works with here.
    Info(InfoArgs),
    /// Print kiln's version.
    Version(VersionArgs),
    /// Print a script that completes kiln's commands and options in a shell.
    Completions(CompletionsArgs),
}
