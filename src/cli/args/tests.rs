//! Tests of the command line as a whole: its definition, the reference page, and the list of accepted options.

use std::collections::BTreeSet;

use clap::{Args as _, CommandFactory as _};

use super::*;

#[test]
fn command_line_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn reference_lists_only_existing_options() {
    let reference = include_str!("../../../docs/reference.md");
    let table = reference.split("| option | meaning |").nth(1).expect("the table of options");
    let table = table.split("\n\n").next().expect("the end of the table");
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
            assert!(known(text), "docs/reference.md lists {text}, which kiln build does not have");
            seen += 1;
        }
    }
    assert!(seen > 10, "the table has few options");
}

/// All accepted options and values, as `option COMMAND --NAME` and `value COMMAND --NAME VALUE`. Options of other
/// builders (`ForeignArgs`) have their own tests.
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
fn accepted_options_each_have_a_row() {
    // N-8; the integration test `accepted` checks the proofs.
    let list = include_str!("../../../testdata/accepted.txt");
    let rows = list.lines().filter_map(|line| Some(line.split_once(" | ")?.0.to_owned()));
    let rows: BTreeSet<String> =
        rows.filter(|name| name.starts_with("option ") || name.starts_with("value ")).collect();
    let accepted = accepted();
    let missing: Vec<_> = accepted.difference(&rows).collect();
    assert!(missing.is_empty(), "testdata/accepted.txt names no proof of {missing:#?}");
    let stale: Vec<_> = rows.difference(&accepted).collect();
    assert!(stale.is_empty(), "testdata/accepted.txt has stale rows: {stale:#?}");
}
