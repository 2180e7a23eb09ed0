//! The commands and the global options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    BuildArgs, CacheArgs, CacheLsArgs, CheckArgs, CompletionsArgs, DiffArgs, DoctorArgs, ExportArgs, FsckArgs,
    HistoryArgs, ImagesArgs, ImagetoolsArgs, ImportArgs, InfoArgs, InspectArgs, LoadArgs, LoginArgs, LogoutArgs,
    ManifestArgs, PruneArgs, PullArgs, PushArgs, RmiArgs, RunArgs, SaveArgs, TagArgs, VersionArgs, examples,
};

/// Build container images from Dockerfiles, without a daemon
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 100, infer_subcommands = false)]
#[command(after_help = examples::KILN, after_long_help = examples::KILN_LONG)]
pub(in crate::cli) struct Cli {
    #[command(flatten)]
    pub(in crate::cli) global: Global,
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(in crate::cli) struct Global {
    /// Set the directory of the store
    ///
    /// The default is $KILN_ROOT, else /var/lib/kiln for root, else $XDG_DATA_HOME/kiln, else ~/.local/share/kiln.
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    pub(in crate::cli) root: Option<PathBuf>,
}

/// The commands. Each has its arguments in a file of this module. Those that few look for are hidden, so that the others fit on
/// one screen.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Build an image from a Dockerfile
    #[command(after_help = examples::BUILD)]
    Build(Box<BuildArgs>),
    /// Check a Dockerfile without building it
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// Run a command in an image
    #[command(after_help = examples::RUN)]
    Run(Box<RunArgs>),
    /// Compare two images, layers or directories
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// List images
    #[command(after_help = examples::IMAGES)]
    Images(ImagesArgs),
    /// Show the details of images as JSON
    #[command(after_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Show the history of an image, newest entry first
    #[command(after_help = examples::HISTORY)]
    History(HistoryArgs),
    /// Add names to an image
    #[command(after_help = examples::TAG)]
    Tag(TagArgs),
    /// Remove image tags or images
    #[command(after_help = examples::RMI)]
    Rmi(RmiArgs),
    /// Create an image from a root file system
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Pull an image from a registry
    #[command(after_help = examples::PULL)]
    Pull(PullArgs),
    /// Push images to registries
    #[command(after_help = examples::PUSH)]
    Push(PushArgs),
    /// Manage manifest lists: images of several platforms under one name
    #[command(after_help = examples::MANIFEST)]
    Manifest(ManifestArgs),
    /// Create and show images of several platforms in registries
    #[command(hide = true, after_help = examples::IMAGETOOLS)]
    Imagetools(ImagetoolsArgs),
    /// Log in to a registry
    #[command(after_help = examples::LOGIN)]
    Login(LoginArgs),
    /// Log out of a registry
    #[command(after_help = examples::LOGOUT)]
    Logout(LogoutArgs),
    /// Load images from an archive or OCI layout
    #[command(after_help = examples::LOAD)]
    Load(LoadArgs),
    /// Save images to an archive
    #[command(after_help = examples::SAVE)]
    Save(SaveArgs),
    /// Write the files of an image as a tar archive
    #[command(after_help = examples::EXPORT)]
    Export(ExportArgs),
    /// Manage the build cache
    #[command(after_help = examples::CACHE)]
    Cache(CacheArgs),
    /// Remove data that no tagged image or running build needs
    #[command(after_help = examples::PRUNE)]
    Prune(PruneArgs),
    /// Show the disk usage of the store
    #[command(after_help = examples::DU)]
    Du(CacheLsArgs),
    /// Verify the store, and repair it
    #[command(after_help = examples::FSCK)]
    Fsck(FsckArgs),
    /// Check what works on this host
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Show the version, the user and the store
    #[command(after_help = examples::INFO)]
    Info(InfoArgs),
    /// Print the version
    #[command(hide = true, after_help = examples::VERSION)]
    Version(VersionArgs),
    /// Print a shell completion script
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
}
