//! The arguments of the commands that deal with stored images.

use std::path::PathBuf;

use clap::Args;

use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::Format;

/// Arguments of `kiln images`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImagesArgs {
    /// Only images of this repository, or this one image
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) name: Option<String>,

    /// Nothing: unnamed images are always listed. Taken because scripts written for Docker say it
    #[arg(short, long)]
    pub(in crate::cli) all: bool,

    /// Only unnamed images, or only named ones
    #[arg(short, long, value_name = "dangling=true|false")]
    pub(in crate::cli) filter: Option<String>,

    /// Show digests
    #[arg(long)]
    pub(in crate::cli) digests: bool,

    /// Show ids and digests in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,

    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// Images: names, digests or the beginning of one
    #[arg(value_name = "IMAGE", required = true)]
    pub(in crate::cli) images: Vec<String>,

    /// Of an image for several platforms, show this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Print the manifest or index exactly as it is stored
    #[arg(long, conflicts_with_all = ["config", "platform"])]
    pub(in crate::cli) raw: bool,

    /// Print the image config exactly as it is stored
    #[arg(long)]
    pub(in crate::cli) config: bool,
}

/// Arguments of `kiln history`.
#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// An image: a name, a digest or the beginning of one
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Of an image for several platforms, show this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Show instructions in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln tag`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    /// An image: a name, a digest or the beginning of one
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Further names for it; a name that another image has moves
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(in crate::cli) names: Vec<Reference>,
}

/// Arguments of `kiln rmi`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RmiArgs {
    /// Images: a name takes that name away, an id forgets the image with all its names
    #[arg(value_name = "IMAGE", required = true)]
    pub(in crate::cli) images: Vec<String>,

    /// Forget an image by its id even if it has several names; images that are not there are no error
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
}

/// Arguments of `kiln import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// A tar archive in any compression, a directory, or - for an archive on standard input
    #[arg(value_name = "TAR|DIR|-")]
    pub(in crate::cli) source: PathBuf,

    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) name: Reference,

    /// A Dockerfile instruction that changes the config: CMD, ENV, USER, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(in crate::cli) change: Vec<String>,

    /// A comment for the history
    #[arg(short, long, value_name = "TEXT")]
    pub(in crate::cli) message: Option<String>,

    /// What it runs on [default: this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(in crate::cli) platform: Option<Platform>,
}

/// Arguments of `kiln pull`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// An image on a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(in crate::cli) name: Reference,

    /// Of an image for several platforms, pull this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(in crate::cli) platform: Option<Platform>,

    /// A registry that need not prove who it is (loopback ones need not)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(in crate::cli) insecure_registry: Vec<String>,

    /// Ask this host first for images of Docker Hub, or of the registry named before it
    #[arg(long, value_name = "[REGISTRY=]HOST[:PORT]")]
    pub(in crate::cli) registry_mirror: Vec<String>,

    /// Print only the digest
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// Arguments of `kiln save`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SaveArgs {
    /// An image: a name, a digest or the beginning of one
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// For which tools
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: ArchiveFormat,
}

/// Arguments of `kiln load`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    /// An archive in any compression, or the directory of an image layout [default: standard input]
    #[arg(short, long, value_name = "FILE|DIR|-")]
    pub(in crate::cli) input: Option<PathBuf>,

    /// Of an image for several platforms, take this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(in crate::cli) platform: Option<Platform>,
}

/// The two archive formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ArchiveFormat {
    /// An OCI image layout in a tar file.
    #[default]
    Oci,
    /// The same with the file that `docker load` looks for.
    Docker,
}
