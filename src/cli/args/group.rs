//! Docker's command groups: `image ls` is `images`.

use std::ffi::OsString;

/// Group, command of the group, and what they are here. [`SAME`]: the command itself.
const GROUPS: [(&str, &str, &[&str]); 27] = [
    ("image", "ls", &["images"]),
    ("image", "list", &["images"]),
    ("image", "rm", &["rmi"]),
    ("image", "remove", &["rmi"]),
    ("image", "build", SAME),
    ("image", "history", SAME),
    ("image", "import", SAME),
    ("image", "inspect", SAME),
    ("image", "load", SAME),
    ("image", "prune", SAME),
    ("image", "pull", SAME),
    ("image", "push", SAME),
    ("image", "save", SAME),
    ("image", "tag", SAME),
    ("buildx", "build", SAME),
    ("buildx", "b", &["build"]),
    ("buildx", "du", SAME),
    ("buildx", "prune", &["cache", "prune"]),
    ("buildx", "version", SAME),
    ("builder", "build", SAME),
    ("builder", "prune", &["cache", "prune"]),
    ("container", "export", SAME),
    ("container", "run", SAME),
    ("manifest", "add", &["manifest", "create", "--amend"]),
    ("system", "df", &["du"]),
    ("system", "info", SAME),
    ("system", "prune", SAME),
];
const SAME: &[&str] = &[];

/// The command line with kiln's own command in place of a group and its command.
pub(in crate::cli) fn without_groups(mut argv: Vec<OsString>) -> Vec<OsString> {
    let mut at = 1;
    while let Some(option) = argv.get(at).filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        // `--root` takes the next word.
        at += if option == "--root" { 2 } else { 1 };
    }
    // A group of a group, which is answered by name.
    if argv.get(at).is_some_and(|word| word == "buildx") && argv.get(at + 1).is_some_and(|word| word == "imagetools") {
        argv.remove(at);
    }
    let words = (argv.get(at).and_then(|word| word.to_str()), argv.get(at + 1).and_then(|word| word.to_str()));
    let (Some(group), Some(command)) = words else { return argv };
    let Some((.., own)) = GROUPS.iter().find(|(of, name, _)| (*of, *name) == (group, command)) else { return argv };
    let own = if own.is_empty() { vec![command.into()] } else { own.iter().map(OsString::from).collect::<Vec<_>>() };
    argv.splice(at..at + 2, own);
    argv
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn groups_become_commands() {
        for (given, want) in [
            ("kiln image ls -q", "kiln images -q"),
            ("kiln --root /x image rm app", "kiln --root /x rmi app"),
            ("kiln buildx build .", "kiln build ."),
            ("kiln builder prune -f", "kiln cache prune -f"),
            ("kiln manifest add app app:1", "kiln manifest create --amend app app:1"),
            ("kiln buildx imagetools inspect app", "kiln imagetools inspect app"),
            ("kiln image frob", "kiln image frob"),
            ("kiln run image ls", "kiln run image ls"),
            ("kiln image", "kiln image"),
            ("kiln", "kiln"),
        ] {
            let argv = given.split(' ').map(OsString::from).collect();
            let want: Vec<OsString> = want.split(' ').map(OsString::from).collect();
            assert_eq!(without_groups(argv), want, "{given}");
        }
    }

    #[test]
    fn every_group_names_a_command() {
        for (group, command, _) in GROUPS {
            let argv = without_groups(["kiln", group, command, "--help"].map(OsString::from).to_vec());
            let answer = Cli::try_parse_from(argv).expect_err("help");
            assert_eq!(answer.kind(), clap::error::ErrorKind::DisplayHelp, "{group} {command}");
        }
    }
}
