//! The arguments of `kiln diff`.

use clap::{Args, ValueEnum};

use crate::oci::platform::Platform;

use super::Format;

/// Arguments of `kiln diff`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// An image, a layer (its digest, or the beginning of one), or a directory (with a slash: ./DIR)
    #[arg(value_name = "A")]
    pub(in crate::cli) a: String,

    /// The same, to compare with it
    #[arg(value_name = "B")]
    pub(in crate::cli) b: String,

    /// Say nothing of these attributes (mtime: nor of when an image was made)
    #[arg(long, value_name = "ATTRIBUTE", value_enum, value_delimiter = ',')]
    pub(in crate::cli) ignore: Vec<Attribute>,

    /// Exit with 1 if anything differs, with 0 if nothing does, with 2 or more if they cannot be compared [default: 0
    /// if both could be compared]
    #[arg(long)]
    pub(in crate::cli) exit_code: bool,

    /// Of images for several platforms, compare this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(in crate::cli) platform: Option<Platform>,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// What a file has beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Attribute {
    /// Modification times.
    Mtime,
    /// Permissions.
    Mode,
    /// Users and groups.
    Owner,
    /// Extended attributes.
    Xattr,
    /// Which names are hard links of one another.
    Link,
    /// How the images are run, and what made them.
    Config,
}

impl Attribute {
    /// Whether the attribute that a difference names is this one.
    pub(in crate::cli) fn covers(self, name: &str) -> bool {
        match self {
            Self::Mtime => name == "mtime",
            Self::Mode => name == "mode",
            Self::Owner => matches!(name, "uid" | "gid"),
            Self::Xattr => name.starts_with("xattr "),
            Self::Link => name == "link",
            Self::Config => false,
        }
    }
}
