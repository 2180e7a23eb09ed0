//! Tests of the help: its form, and that the examples in help and documents parse.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::base::fs;

/// Lines and columns of one screen.
const SCREEN: (usize, usize) = (40, 100);

/// Verbs that the help of an option begins with.
const VERBS: [&str; 39] = [
    "Add", "Allocate", "Apply", "Build", "Check", "Choose", "Create", "Exit", "Grant", "Ignore", "Keep", "Limit",
    "List", "Load", "Mount", "Name", "Pass", "Print", "Publish", "Pull", "Push", "Read", "Remove", "Replace", "Report",
    "Run", "Select", "Set", "Show", "Skip", "Stop", "Use", "Write", "Save", "Compare", "Manage", "Enable", "Disable",
    "Trust",
];

/// Calls `check` with every command, its path first: `cache mounts ls`.
fn visit_commands(command: &mut clap::Command, path: &str, check: &mut dyn FnMut(&str, &mut clap::Command)) {
    check(path, command);
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        visit_commands(sub, path.trim_start(), check);
    }
}

fn whole_command() -> clap::Command {
    let mut command = Cli::command().term_width(SCREEN.1);
    command.build();
    command
}

#[test]
fn help_of_options_is_one_imperative_line() {
    visit_commands(&mut whole_command(), "", &mut |path, command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.ends_with('.') && !about.contains('\n'), "{path}: {about:?}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let name = format!("{path} {}", arg.get_id());
            let help = arg.get_help().unwrap_or_else(|| panic!("{name}: no help")).to_string();
            assert!(!help.contains('\n') && help.chars().count() <= 75, "{name}: {help:?} is long");
            assert!(!help.ends_with('.'), "{name}: {help:?} ends with a full stop");
            let verb = help.split([' ', ',']).next().unwrap_or_default();
            assert!(arg.is_positional() || VERBS.contains(&verb), "{name}: {help:?} begins with no verb");
        }
    });
}

#[test]
fn short_help_fits_on_one_screen() {
    visit_commands(&mut whole_command(), "", &mut |path, command| {
        let help = command.render_help().to_string();
        let lines = help.lines().count();
        assert!(lines <= SCREEN.0, "kiln {path} -h has {lines} lines:\n{help}");
        for line in help.lines().chain(command.render_long_help().to_string().lines()) {
            assert!(line.chars().count() <= SCREEN.1, "kiln {path}: {line}");
        }
    });
}

#[test]
fn every_command_has_examples_that_parse() {
    visit_commands(&mut whole_command(), "", &mut |path, command| {
        for foot in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
            let foot = foot.to_string();
            let examples = foot.strip_prefix("Examples:\n").unwrap_or_else(|| panic!("kiln {path}: no examples"));
            let lines: Vec<&str> = examples.lines().take_while(|line| line.starts_with("  ")).collect();
            assert!((2..=3).contains(&lines.len()), "kiln {path}: {} examples", lines.len());
            for line in lines {
                assert_eq!(parse_commands(line), 1, "{line}");
                assert!(line.contains(&format!("kiln {path}")), "kiln {path}: {line}");
            }
        }
        assert!(command.get_after_help().is_some(), "kiln {path} has no examples");
    });
}

#[test]
fn commands_in_documents_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::list(&root.join("docs")).expect("list docs").into_iter().map(|name| root.join("docs").join(name));
    let mut seen = 0;
    for file in docs.chain([root.join("README.md"), root.join("CONTRIBUTING.md")]) {
        let text = String::from_utf8(fs::read(&file).expect("read")).expect("UTF-8");
        for block in text.split("\n```").skip(1).step_by(2).filter(|block| block.starts_with("sh")) {
            seen += parse_commands(block.split_once('\n').map_or("", |(_, body)| body));
        }
    }
    assert!(seen >= 15, "only {seen} commands were found");
}

/// Parses every kiln command of a script and returns how many there are.
#[track_caller]
fn parse_commands(script: &str) -> usize {
    let mut count = 0;
    for words in commands(script) {
        let program = words.iter().position(|word| !word.contains('=')).unwrap_or(words.len());
        if words.get(program).is_some_and(|word| word == "kiln" || word.ends_with("/kiln")) {
            count += 1;
            if let Err(problem) = Cli::try_parse_from(&words[program..]) {
                let help = matches!(problem.kind(), clap::error::ErrorKind::DisplayHelp);
                assert!(help, "{words:?}: {problem}");
            }
        }
    }
    count
}

/// The simple commands of a shell script, as words without redirections. Enough for examples: quotes, comments,
/// continued lines, pipes, lists and `$(…)`.
fn commands(script: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let script = script.replace("\\\n", " ");
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => word.get_or_insert_default().extend(chars.by_ref().take_while(|&inside| inside != c)),
            '#' if word.is_none() => while chars.next_if(|&inside| inside != '\n').is_some() {},
            '$' if chars.peek() == Some(&'(') => {}
            ' ' | '\t' => words.extend(word.take()),
            '\n' | '|' | '&' | ';' | '(' | ')' => {
                words.extend(word.take());
                all.push(std::mem::take(&mut words));
            }
            '<' | '>' => {
                // What follows is a file, not an argument.
                words.extend(word.take());
                while chars.next_if(|&next| next == ' ' || next == '>').is_some() {}
                while chars.next_if(|&next| !next.is_whitespace()).is_some() {}
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}

#[test]
fn scripts_are_split_into_simple_commands() {
    let script = "id=$(kiln build -q .) # comment\nA=1 kiln run 'a b' > out | cat && \\\n  ls \"x\"\n";
    let want: [&[&str]; 5] =
        [&["id="], &["kiln", "build", "-q", "."], &["A=1", "kiln", "run", "a b"], &["cat"], &["ls", "x"]];
    assert_eq!(commands(script), want);
}
