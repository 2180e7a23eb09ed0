//! The arguments of `kiln version`, `doctor`, `info` and `completions`.

use clap::Args;

use super::Format;

/// Arguments of `kiln version`.
#[derive(Debug, Args)]
pub(in crate::cli) struct VersionArgs {
    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln doctor`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Arguments of `kiln completions`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CompletionsArgs {
    /// The shell to complete commands in
    #[arg(value_enum)]
    pub(in crate::cli) shell: clap_complete::Shell,
}

/// Arguments of `kiln info`.
#[derive(Debug, Args)]
pub(in crate::cli) struct InfoArgs {
    /// Choose the output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}
