//! What was typed, nothing looked up.
//!
//! **Holds.** The shape of the command line and its help. Values that need no more than their own text to be
//! understood (image names, platforms, sizes) are parsed here, so that a mistake in one is a usage error before
//! anything happens (O-50).
//! **Order.** A flag appears here only when the command does what it says, or refuses it by name (`request`).

mod around;
mod build;
mod cache;
mod command;
mod diff;
mod foreign;
mod format;
mod host;
mod images;
mod run;

pub(super) use around::AroundArgs;
pub(super) use build::{
    BuildArgs, CheckArgs, CompressionArg, NetworkArg, OnFailure, Progress, Pull, SnapshotterArg, SourceArgs,
};
pub(super) use cache::{
    CacheArgs, CacheCommand, CacheLsArgs, MountsArgs, MountsCommand, MountsExportArgs, MountsImportArgs, MountsLsArgs,
    MountsRmArgs, PruneArgs,
};
pub(super) use command::{Cli, Command};
pub(super) use diff::{Attribute, DiffArgs};
pub(super) use foreign::{ForeignArgs, instead_of_command, instead_of_option};
pub(super) use format::Format;
pub(super) use host::{CompletionsArgs, DoctorArgs, InfoArgs, VersionArgs};
pub(super) use images::{
    ArchiveFormat, HistoryArgs, ImagesArgs, ImportArgs, InspectArgs, LoadArgs, PullArgs, RmiArgs, SaveArgs, TagArgs,
};
pub(super) use run::RunArgs;

#[cfg(test)]
mod tests;
