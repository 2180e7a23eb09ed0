//! The arguments of `kiln imagetools`, which is `docker buildx imagetools`.

use clap::builder::TypedValueParser as _;
use clap::{Args, Subcommand};

use crate::dockerfile::mount::parse_bool;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::{ManifestRegistryArgs, examples};

/// Arguments of `kiln imagetools`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImagetoolsArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ImagetoolsCommand,
}

/// The subcommands of `kiln imagetools`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImagetoolsCommand {
    /// Create an image in a registry from images in registries
    #[command(after_help = examples::IMAGETOOLS_CREATE)]
    Create(ImagetoolsCreateArgs),
    /// Show an image in a registry
    #[command(after_help = examples::IMAGETOOLS_INSPECT)]
    Inspect(ImagetoolsInspectArgs),
}

/// Arguments of `kiln imagetools create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImagetoolsCreateArgs {
    /// Images in registries; of an image with several platforms, all are taken
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(in crate::cli) sources: Vec<Reference>,

    /// Name the new image
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(in crate::cli) tag: Vec<Reference>,

    /// Add to the image that the first --tag names
    ///
    /// An image replaces one for the same platform.
    #[arg(long, requires = "tag")]
    pub(in crate::cli) append: bool,

    /// Show the new image instead of pushing it
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,

    /// Add an annotation to the new image
    ///
    /// TYPE is index (the default) for the new image as a whole, or manifest-descriptor for each platform in it.
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    pub(in crate::cli) annotation: Vec<String>,

    /// Keep only these platforms
    #[arg(short, long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(in crate::cli) platform: Vec<Platform>,

    /// Create an index also from one image for one platform
    ///
    /// With false, a single source is copied as it is.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true")]
    #[arg(default_missing_value = "true", value_parser = boolean(), action = clap::ArgAction::Set)]
    pub(in crate::cli) prefer_index: bool,

    #[command(flatten)]
    pub(in crate::cli) registry: ManifestRegistryArgs,
}

/// Arguments of `kiln imagetools inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImagetoolsInspectArgs {
    /// An image in a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(in crate::cli) name: Reference,

    /// Print the manifest or index exactly as the registry has it
    #[arg(long, conflicts_with = "format")]
    pub(in crate::cli) raw: bool,

    /// Print fields with a Go template
    ///
    /// The fields are .Name, .Manifest and .Image; of several platforms, .Image has one image for each.
    #[arg(long, value_name = "TEMPLATE")]
    pub(in crate::cli) format: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) registry: ManifestRegistryArgs,
}

fn boolean() -> clap::builder::ValueParser {
    let text = clap::builder::NonEmptyStringValueParser::new();
    text.try_map(|text| parse_bool(&text).ok_or("want true or false")).into()
}
