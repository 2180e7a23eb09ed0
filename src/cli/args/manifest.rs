//! The arguments of `kiln manifest`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::oci::reference::Reference;

use super::{ConnectionArgs, examples};

/// Arguments of `kiln manifest`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ManifestCommand,
}

/// The subcommands of `kiln manifest`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ManifestCommand {
    /// Create a manifest list from images
    #[command(after_help = examples::MANIFEST_CREATE)]
    Create(ManifestCreateArgs),
    /// Set the platform or annotations of an image in a manifest list
    #[command(after_help = examples::MANIFEST_ANNOTATE)]
    Annotate(ManifestAnnotateArgs),
    /// Show a manifest list or manifest as JSON
    #[command(after_help = examples::MANIFEST_INSPECT)]
    Inspect(ManifestInspectArgs),
    /// Push a manifest list with its images
    #[command(after_help = examples::MANIFEST_PUSH)]
    Push(ManifestPushArgs),
    /// Remove images from a manifest list
    #[command(after_help = examples::MANIFEST_REMOVE)]
    Remove(ManifestRemoveArgs),
    /// Remove manifest lists from the store
    #[command(after_help = examples::MANIFEST_RM)]
    Rm(ManifestRmArgs),
}

/// Arguments of `kiln manifest create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestCreateArgs {
    /// The name of the list
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) list: Reference,

    /// Images of the store, else of registries; or docker://NAME
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) images: Vec<String>,

    /// Add to a list that exists; an image replaces one for the same platform
    #[arg(short, long, overrides_with = "amend")]
    pub(in crate::cli) amend: bool,

    #[command(flatten)]
    pub(in crate::cli) registry: ManifestRegistryArgs,
}

/// How the registries of a list and its images are used.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestRegistryArgs {
    /// Use registries without TLS or without checking their certificates
    ///
    /// Registries on loopback addresses need no option.
    #[arg(long)]
    pub(in crate::cli) insecure: bool,

    /// Use this credential file alone
    ///
    /// The default is every file that docker login, podman login and kiln login write.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) authfile: Option<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) connection: ConnectionArgs,
}

/// Arguments of `kiln manifest annotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestAnnotateArgs {
    /// The name of the list
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) list: Reference,

    /// An image of the list, by its name or digest
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,

    /// Set the operating system
    #[arg(long, value_name = "OS")]
    pub(in crate::cli) os: Option<String>,

    /// Set the architecture
    #[arg(long, value_name = "ARCH")]
    pub(in crate::cli) arch: Option<String>,

    /// Set the variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub(in crate::cli) variant: Option<String>,

    /// Set the version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) os_version: Option<String>,

    /// Set the features of the operating system
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    pub(in crate::cli) os_features: Vec<String>,

    /// Add an annotation
    #[arg(long, value_name = "KEY=VALUE")]
    pub(in crate::cli) annotation: Vec<String>,
}

/// Arguments of `kiln manifest inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestInspectArgs {
    /// A list or image of the store, else of a registry; or docker://NAME
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,

    /// Show this image of the list, by its name or digest
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: Option<String>,

    /// Show the manifests of a list as well
    #[arg(short, long)]
    pub(in crate::cli) verbose: bool,

    #[command(flatten)]
    pub(in crate::cli) registry: ManifestRegistryArgs,
}

/// Arguments of `kiln manifest push`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestPushArgs {
    /// The name of the list
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) list: Reference,

    /// Another name to push it to, also as docker://NAME
    #[arg(value_name = "DESTINATION")]
    pub(in crate::cli) destination: Option<String>,

    /// Remove the list from the store after the push
    #[arg(short, long, visible_alias = "rm")]
    pub(in crate::cli) purge: bool,

    /// Push the images of the list
    ///
    /// No effect: they are always pushed. Accepted for podman compatibility.
    #[arg(long, hide_short_help = true)]
    pub(in crate::cli) all: bool,

    /// Write the digest to this file
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) digestfile: Option<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) registry: ManifestRegistryArgs,
}

/// Arguments of `kiln manifest remove`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestRemoveArgs {
    /// The name of the list
    #[arg(value_name = "NAME[:TAG]")]
    pub(in crate::cli) list: Reference,

    /// Images of the list, by name or digest
    #[arg(value_name = "IMAGE", required = true)]
    pub(in crate::cli) images: Vec<String>,
}

/// Arguments of `kiln manifest rm`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestRmArgs {
    /// The names of the lists
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(in crate::cli) lists: Vec<Reference>,
}
