//! The arguments of `kiln diff`.

use clap::{Args, ValueEnum};

use crate::oci::platform::Platform;

use super::Format;

/// Arguments of `kiln diff`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// An image, a layer digest or its beginning, or a directory such as ./DIR
    #[arg(value_name = "A")]
    pub(in crate::cli) a: String,

    /// An image, layer or directory to compare with
    #[arg(value_name = "B")]
    pub(in crate::cli) b: String,

    /// Ignore differences in these attributes
    #[arg(long, value_name = "ATTRIBUTE", value_enum, value_delimiter = ',')]
    pub(in crate::cli) ignore: Vec<Attribute>,

    /// Exit with 1 if anything differs
    ///
    /// 0 means that nothing differs, 2 or more that the comparison failed. Without the option, differences also exit
    /// with 0.
    #[arg(long)]
    pub(in crate::cli) exit_code: bool,

    /// Select this platform of images with several
    ///
    /// The default is the platform of this machine.
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<Platform>,

    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// An attribute whose differences can be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Attribute {
    /// Modification times, and the creation time of images
    Mtime,
    /// Permissions
    Mode,
    /// Users and groups
    Owner,
    /// Extended attributes
    Xattr,
    /// Hard links
    Link,
    /// The image config
    Config,
}

impl Attribute {
    /// Whether differences named `name` belong to this attribute.
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
