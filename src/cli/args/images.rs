//! The arguments of the commands for images in the store.

use std::path::PathBuf;

use clap::Args;

use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::Shape;

/// Arguments of `kiln images`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImagesArgs {
    /// List only this repository or image
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) name: Option<String>,

    /// List untagged images too
    ///
    /// No effect: they are always listed. Accepted for Docker compatibility.
    #[arg(short, long, hide_short_help = true)]
    pub(in crate::cli) all: bool,

    /// List only matching images
    ///
    /// dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE. Of several filters all must
    /// match, of several references one.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(in crate::cli) filter: Vec<String>,

    /// Show digests
    #[arg(long)]
    pub(in crate::cli) digests: bool,

    /// Show ids and digests in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,

    /// Choose the output format
    ///
    /// text, json, or a Go template with .Repository, .Tag, .ID, .Digest, .CreatedAt, .CreatedSince, .Size, .Platform.
    #[arg(long, value_name = "FORMAT", default_value_t)]
    pub(in crate::cli) format: Shape,
}

/// Arguments of `kiln inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// Images, by name, digest or the beginning of a digest
    #[arg(value_name = "IMAGE", required = true)]
    pub(in crate::cli) images: Vec<String>,

    /// Select this platform of an image with several
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Print the manifest or index exactly as it is stored
    #[arg(long, conflicts_with_all = ["config", "platform"])]
    pub(in crate::cli) raw: bool,

    /// Print the image config exactly as it is stored
    #[arg(long)]
    pub(in crate::cli) config: bool,

    /// Print this Go template for each image
    ///
    /// Its fields are those of the JSON: '{{.Id}}', '{{json .Config.Env}}'.
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with_all = ["raw", "config"])]
    pub(in crate::cli) format: Option<String>,
}

/// Arguments of `kiln history`.
#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// An image, by name, digest or the beginning of a digest
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Select this platform of an image with several
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Show instructions in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,

    /// Choose the output format
    ///
    /// text, json, or a Go template with .ID, .CreatedAt, .CreatedSince, .CreatedBy, .Size, .Comment.
    #[arg(long, value_name = "FORMAT", default_value_t)]
    pub(in crate::cli) format: Shape,
}

/// Arguments of `kiln tag`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    /// An image, by name, digest or the beginning of a digest
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Names to add; a name of another image moves to this one
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(in crate::cli) names: Vec<Reference>,
}

/// Arguments of `kiln rmi`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RmiArgs {
    /// A name to remove, or the digest of an image to remove
    #[arg(value_name = "IMAGE", required = true)]
    pub(in crate::cli) images: Vec<String>,

    /// Remove images that have several names, and ignore missing images
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
}

/// Arguments of `kiln import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// A tar archive, compressed or not, a directory, or - for standard input
    #[arg(value_name = "TAR|DIR|-")]
    pub(in crate::cli) source: PathBuf,

    /// The name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) name: Reference,

    /// Apply a Dockerfile instruction to the config
    ///
    /// Only instructions that set metadata: CMD, ENV, USER, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(in crate::cli) change: Vec<String>,

    /// Set the comment in the history
    #[arg(short, long, value_name = "TEXT")]
    pub(in crate::cli) message: Option<String>,

    /// Set the platform of the image
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,
}

/// Arguments of `kiln save`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SaveArgs {
    /// Images, by name, digest or the beginning of a digest
    #[arg(value_name = "IMAGE", required = true)]
    pub(in crate::cli) images: Vec<String>,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// Choose the archive format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: ArchiveFormat,
}

/// Arguments of `kiln export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// An image, by name, digest or the beginning of a digest
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// Select this platform of an image with several
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,
}

/// Arguments of `kiln load`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    /// Read this archive or image layout instead of standard input
    #[arg(short, long, value_name = "FILE|DIR|-")]
    pub(in crate::cli) input: Option<PathBuf>,

    /// Load this platform of an image with several
    ///
    /// The default is all of them.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,
}

/// The two archive formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ArchiveFormat {
    /// An OCI image layout in a tar file
    #[default]
    Oci,
    /// The same, with the file that every docker load reads: of several platforms, it names one
    Docker,
}
