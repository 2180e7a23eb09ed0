//! `--format`.

use clap::ValueEnum;

/// How a command prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}
