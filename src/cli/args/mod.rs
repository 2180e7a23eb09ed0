//! What was typed, nothing looked up.
//!
//! **Holds.** The shape of the command line and its help. Values that need no more than their own text to be
//! understood (image names, platforms, sizes) are parsed here, so that a mistake in one is a usage error before
//! anything happens (O-50).
//! **Order.** A flag appears here only when the command does what it says, or refuses it by name (`request`).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod around;
mod build;
mod cache;
mod diff;
mod foreign;
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
pub(super) use diff::{Attribute, DiffArgs};
pub(super) use foreign::{ForeignArgs, instead_of_command, instead_of_option};
pub(super) use images::{
    ArchiveFormat, HistoryArgs, ImagesArgs, ImportArgs, InfoArgs, InspectArgs, LoadArgs, PullArgs, RmiArgs, SaveArgs,
    TagArgs,
};
pub(super) use run::RunArgs;

/// Builds container images from Dockerfiles without a daemon.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 110, infer_subcommands = false)]
#[command(
    after_help = "Exit codes: 0 done, 1 the build failed, 2 usage, 3 this host lacks something, 101 a bug in kiln, 130 interrupted. kiln run: the command's own, 127 not found, 126 not executable, 125 anything that keeps it from starting."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Where images and the cache are kept [default: $KILN_ROOT, else /var/lib/kiln for root, else kiln below $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
}

/// The commands. Each one's arguments and code are in its own file.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build an image from a Dockerfile.
    Build(Box<BuildArgs>),
    /// Check a Dockerfile without building it.
    Check(CheckArgs),
    /// Run a command of an image.
    Run(Box<RunArgs>),
    /// Show what differs between two images, layers or directories.
    Diff(DiffArgs),
    /// List images.
    Images(ImagesArgs),
    /// Show everything about images, as JSON.
    Inspect(InspectArgs),
    /// Show what made an image, newest first.
    History(HistoryArgs),
    /// Give an image further names.
    Tag(TagArgs),
    /// Take names away, or forget images.
    Rmi(RmiArgs),
    /// Make a base image of a root file system.
    Import(ImportArgs),
    /// Fetch an image from a registry.
    Pull(PullArgs),
    /// Take in the images of an archive or layout.
    Load(LoadArgs),
    /// Write an image to an archive.
    Save(SaveArgs),
    /// Look at and carry around what builds keep for the next build.
    Cache(CacheArgs),
    /// Remove what no named image needs.
    Prune(PruneArgs),
    /// Say what works on this host, and what stands in the way of the rest.
    Doctor(DoctorArgs),
    /// Show what kiln works with here.
    Info(InfoArgs),
    /// Print kiln's version.
    Version(VersionArgs),
    /// Print a script that completes kiln's commands and options in a shell.
    Completions(CompletionsArgs),
}

/// Arguments of `kiln version`.
#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Arguments of `kiln doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Arguments of `kiln completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

/// How a command prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_and_command_says_what_it_does() {
        fn visit(command: &clap::Command) {
            for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{}", sub.get_name());
                visit(sub);
            }
        }
        visit(&Cli::command());
    }

    #[test]
    fn every_option_the_readme_speaks_of_exists() {
        let readme = include_str!("../../../README.md");
        let table = readme.split("| option | meaning |").nth(1).expect("the table of options");
        let table = table.split("\n\n").next().expect("its end");
        let command = Cli::command();
        let build = command.find_subcommand("build").expect("build");
        let known = |text: &str| {
            let option = text.split(['=', ' ', ',', '\\']).next().unwrap_or_default();
            let mut all = build.get_arguments().chain(command.get_arguments()).filter(|arg| !arg.is_hide_set());
            all.any(|arg| match option.strip_prefix("--") {
                Some(long) => arg.get_long() == Some(long),
                None => option.chars().nth(1).is_some_and(|short| arg.get_short() == Some(short)),
            })
        };
        let mut seen = 0;
        for cell in table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
            for text in cell.split('`').filter(|text| text.starts_with('-') && *text != "---") {
                assert!(known(text), "the README has {text}, kiln build has not");
                seen += 1;
            }
        }
        assert!(seen > 10, "the table was not found");
    }

    /// What is accepted, `option COMMAND --NAME` and `value COMMAND --NAME VALUE` each. The options of other builders
    /// (`ForeignArgs`) are a table of their own, with tests of its own.
    fn accepted() -> BTreeSet<String> {
        fn visit(command: &clap::Command, path: &str, foreign: &BTreeSet<&str>, found: &mut BTreeSet<String>) {
            for arg in command.get_arguments() {
                if arg.is_hide_set() && path == "build" && arg.get_long().is_some_and(|name| foreign.contains(name)) {
                    continue;
                }
                let names = arg.get_long_and_visible_aliases().unwrap_or_default().into_iter();
                let names = names.chain(arg.get_all_aliases().unwrap_or_default());
                for name in names {
                    found.insert(format!("option {path} --{name}"));
                }
                let takes = arg.get_action().takes_values();
                let values = if takes { arg.get_possible_values() } else { Vec::new() };
                for value in values.iter().flat_map(clap::builder::PossibleValue::get_name_and_aliases) {
                    let name = arg.get_long().unwrap_or(arg.get_id().as_str());
                    found.insert(format!("value {path} --{name} {value}"));
                }
            }
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                visit(sub, path.trim_start_matches("kiln "), foreign, found);
            }
        }
        let foreign = ForeignArgs::augment_args(clap::Command::new("kiln"));
        let foreign = foreign.get_arguments().filter_map(clap::Arg::get_long).collect();
        let mut found = BTreeSet::new();
        visit(&Cli::command(), "kiln", &foreign, &mut found);
        found
    }

    #[test]
    fn every_option_has_a_row_in_the_list_of_proofs() {
        // N-8; the integration test `accepted` checks the proofs.
        let list = include_str!("../../../testdata/accepted.txt");
        let rows = list.lines().filter_map(|line| Some(line.split_once(" | ")?.0.to_owned()));
        let rows: BTreeSet<String> =
            rows.filter(|name| name.starts_with("option ") || name.starts_with("value ")).collect();
        let accepted = accepted();
        let missing: Vec<_> = accepted.difference(&rows).collect();
        assert!(missing.is_empty(), "testdata/accepted.txt names no proof of {missing:#?}");
        let stale: Vec<_> = rows.difference(&accepted).collect();
        assert!(stale.is_empty(), "testdata/accepted.txt has rows of what is not accepted: {stale:#?}");
    }

    #[test]
    fn help_names_no_option_twice_and_fits_a_terminal() {
        let mut command = Cli::command().term_width(100);
        command.build();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 110, "{}: {line}", sub.get_name());
            }
        }
    }
}
