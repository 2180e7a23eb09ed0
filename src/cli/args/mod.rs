//! Definition of the command line: commands, options and their help.
//!
//! **Holds.** Every option defined here takes effect or is refused by name in `request`. Values that need no context
//! (image names, platforms) are parsed here, so that a mistake in one is a usage error before anything happens (O-50).
//! `-h` shows common options on one screen; `--help` shows all of them.
//! **Not here.** Everything that depends on the environment or the file system: `request`.

mod build;
mod cache;
mod command;
mod connection;
mod container;
mod diff;
mod examples;
mod foreign;
mod format;
mod group;
mod host;
mod images;
mod imagetools;
mod manifest;
mod registries;
mod run;

pub(super) use build::{
    BuildArgs, CheckArgs, CompressionArg, NetworkArg, OnFailure, Progress, Pull, SnapshotterArg, SourceArgs,
};
pub(super) use cache::{
    CacheArgs, CacheCommand, CacheExplainArgs, CacheLsArgs, FsckArgs, MountsArgs, MountsCommand, MountsExportArgs,
    MountsImportArgs, MountsLsArgs, MountsRmArgs, PruneArgs,
};
pub(super) use command::{Cli, Command};
pub(super) use connection::{CaArgs, ConnectionArgs, RegistryArgs};
pub(super) use container::ContainerArgs;
pub(super) use diff::{Attribute, DiffArgs};
pub(super) use foreign::{ForeignArgs, instead_of_command, instead_of_option};
pub(super) use format::{Format, Shape};
pub(super) use group::without_groups;
pub(super) use host::{CompletionsArgs, DoctorArgs, InfoArgs, VersionArgs};
pub(super) use images::{
    ArchiveFormat, ExportArgs, HistoryArgs, ImagesArgs, ImportArgs, InspectArgs, LoadArgs, RmiArgs, SaveArgs, TagArgs,
};
pub(super) use imagetools::{ImagetoolsArgs, ImagetoolsCommand, ImagetoolsCreateArgs, ImagetoolsInspectArgs};
pub(super) use manifest::{
    ManifestAnnotateArgs, ManifestArgs, ManifestCommand, ManifestCreateArgs, ManifestInspectArgs, ManifestPushArgs,
    ManifestRegistryArgs, ManifestRemoveArgs, ManifestRmArgs,
};
pub(super) use registries::{LoginArgs, LogoutArgs, PullArgs, PushArgs};
pub(super) use run::RunArgs;

#[cfg(test)]
mod help_tests;
#[cfg(test)]
mod tests;
