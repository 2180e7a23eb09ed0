//! Test that everything kiln accepts is listed with a proof of its effect (N-8).
//!
//! `testdata/accepted.txt` has one row for each option, flag, key and value: `KIND NAME | PROOF`. A proof is
//! `FILE TEST` (a test that contains the last word of the name, or the words after `as`), `case DIR` (a case of
//! `testdata` that contains it) or `refused TEXT` (a message of kiln). The accepted names come from kiln itself:
//! options from their definition (a unit test of `cli::args` compares these rows), the rest from tables and matches in
//! the sources. The suite fails for an accepted name without a row, and for a row without its proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::env::testdata;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the sources are missing: `scripts/test` copies only what the tests need for the plain user.
fn no_sources() -> bool {
    std::env::var_os("KILN_TEST_HOME").is_some()
}

/// The text of a source file without its unit tests.
fn code(path: &str) -> String {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.split("\n#[cfg(test)]").next().unwrap_or_default().to_owned()
}

fn files(dir: &str) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(root().join(dir)).sort_by_file_name();
    let all = all.into_iter().map(|entry| entry.expect("walk").into_path());
    all.filter(|path| path.is_file()).collect()
}

/// The part of `text` from `start` to the next `end` after it.
#[track_caller]
fn part<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start:?} is not in the source"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} after {start:?}")).0
}

/// The string literals of a text: start, end and content of each. Comments are skipped.
fn literals(text: &str) -> Vec<(usize, usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let mut from = 0;
        while !line.trim_start().starts_with("//")
            && let Some(open) = line[from..].find('"').map(|i| from + i)
            && let Some(close) = line[open + 1..].find('"').map(|i| open + 1 + i)
        {
            found.push((at + open, at + close + 1, &line[open + 1..close]));
            from = close + 1;
        }
        at += line.len();
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    literals(text).into_iter().map(|(.., word)| word)
}

/// Whether a word has the form of a variable name.
fn is_variable(word: &str) -> bool {
    word.len() > 2
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The words that a source compares input with: before `=>`, after `==`, in `strip_prefix`.
fn compared(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, end, word) in literals(text) {
        let before = &text[..start];
        let matched = text[end..].lines().next().is_some_and(|rest| rest.contains("=>"));
        let tested = ["== ", "!= ", "strip_prefix(", "starts_with(", "take("].iter().any(|with| before.ends_with(with));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".:/-".contains(&b);
        if (matched || tested)
            && !matches!(word, "true" | "false")
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(plain)
        {
            found.insert(word.to_owned());
        }
    }
    found
}

/// Instructions, their flags, and directives.
fn language_words(found: &mut BTreeSet<String>) {
    let keywords = code("src/dockerfile/keyword.rs");
    for row in part(&keywords, "pub(super) const KEYWORDS", "\n];").lines().filter(|row| row.contains('"')) {
        let mut names = words(row);
        let instruction = names.next().expect("a name");
        found.insert(format!("instruction {instruction}"));
        found.extend(names.map(|flag| format!("flag {instruction} --{flag}")));
        if let Some(table) = row.split('&').nth(1).and_then(|rest| rest.strip_suffix("),")).filter(|t| !t.contains('['))
        {
            let flags = words(part(&keywords, &format!("const {table}:"), "];"));
            found.extend(flags.map(|flag| format!("flag {instruction} --{flag}")));
        }
    }
    let directives = code("src/dockerfile/directives.rs");
    found.extend(words(part(&directives, "const NAMES", "];")).map(|name| format!("directive {name}")));
    let controls = compared(&code("src/dockerfile/lint/controls.rs"));
    found.extend(controls.iter().filter(|word| *word != "all").map(|word| format!("check {word}")));
}

/// The keys of mounts, for each type that takes them, and their values.
fn mount_words(found: &mut BTreeSet<String>) {
    let mounts = code("src/dockerfile/mount.rs");
    let kinds = part(&mounts, "fn kinds(self)", "\n    }");
    let takes = |variant: &str| {
        let arms = || kinds.lines().filter_map(|line| line.split_once("=>"));
        let own =
            |(names, _): &(&str, &str)| names.split('|').any(|name| name.trim() == format!("MountKey::{variant}"));
        let (_, list) = arms().find(own).or_else(|| arms().find(|(names, _)| names.trim() == "_")).expect("an arm");
        list.trim().trim_matches(['&', '[', ']', ',']).to_ascii_lowercase()
    };
    for row in part(&mounts, "const KEYS", "];").lines().filter(|row| row.contains('"')) {
        let key = words(row).next().expect("a key");
        let variant = row.split("MountKey::").nth(1).expect("a variant").trim_end_matches([')', ',']);
        found.extend(takes(variant).split(", ").map(|kind| format!("mount {kind} {key}")));
    }
    found.extend(words(part(&mounts, "const KINDS", "];")).map(|kind| format!("mount type {kind}")));
    found.extend(words(part(&mounts, "const SHARINGS", "];")).map(|word| format!("mount sharing {word}")));
    let device = compared(part(&mounts, "impl Device {", "\n}"));
    found.extend(device.iter().map(|key| format!("device {key}")));
}

/// Predefined build arguments, and environment variables.
fn variable_words(found: &mut BTreeSet<String>) {
    let globals = code("src/plan/globals.rs");
    let of_platforms: BTreeSet<&str> = words(part(&globals, "fn predefined(", "\n}")).collect();
    let known = words(&globals).filter(|word| word.contains('_') || of_platforms.contains(word));
    found.extend(known.filter(|word| is_variable(word)).map(|word| format!("argument {word}")));
    for file in files("src") {
        let path = file.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned();
        if path.ends_with("/tests.rs") {
            continue;
        }
        let text = code(&path);
        assert!(
            path == "src/cli/request/environment.rs" || !text.contains("env::var"),
            "{path} reads the environment, which only cli::request does"
        );
        let in_request = path.starts_with("src/cli/request/");
        for word in words(&text).filter(|word| is_variable(word)) {
            if word.starts_with("BUILDKIT_") && !in_request {
                found.insert(format!("argument {word}"));
            } else if in_request && word != "PATH" {
                found.insert(format!("environment {word}"));
            }
        }
    }
}

/// Keywords inside option values.
fn option_words(found: &mut BTreeSet<String>) {
    let not = ["container.rs", "environment.rs", "mod.rs", "ssh.rs", "tests.rs", "value.rs"];
    for file in files("src/cli/request") {
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if !not.contains(&name) {
            let kind = name.trim_end_matches(".rs");
            let all = compared(&code(&format!("src/cli/request/{name}")));
            found.extend(all.iter().map(|word| format!("word {kind} {word}")));
        }
    }
    let limits = code("src/cli/request/value.rs");
    found.extend(words(part(&limits, "const LIMITS", "];")).map(|name| format!("limit {name}")));
}

/// The rows: name and proof.
fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(testdata("accepted.txt")).expect("read");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &str| {
        let (name, proof) = line.split_once(" | ").unwrap_or_else(|| panic!("no proof: {line}"));
        (name.to_owned(), proof.to_owned())
    };
    lines.map(row).collect()
}

#[test]
fn accepted_words_each_have_a_row() {
    if no_sources() {
        return;
    }
    let mut accepted = BTreeSet::new();
    language_words(&mut accepted);
    mount_words(&mut accepted);
    variable_words(&mut accepted);
    option_words(&mut accepted);
    let listed: BTreeSet<String> = rows().into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed.len(), rows().len(), "a row is listed twice");
    let missing: Vec<_> = accepted.difference(&listed).collect();
    assert!(missing.is_empty(), "testdata/accepted.txt names no proof of {missing:#?}");
    let of_options = |name: &&String| name.starts_with("option ") || name.starts_with("value ");
    let stale: Vec<_> = listed.difference(&accepted).filter(|name| !of_options(name)).collect();
    assert!(stale.is_empty(), "testdata/accepted.txt has rows for names that are not accepted: {stale:#?}");
}

/// The text of a test function, with the comment above it.
fn test_body(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(root().join(file)).ok()?;
    let start = text.find(&format!("fn {name}()"))?;
    let before = text[..start].trim_end();
    let is_test = before.rsplit('\n').take(3).any(|line| line.trim() == "#[test]");
    let body = text[start..].split("#[test]").next().unwrap_or_default();
    is_test.then(|| body.to_owned())
}

/// Whether `text` contains `word` as a whole word.
fn contains(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        let cut = |end: Option<char>, edge: Option<char>| !(end.is_some_and(inside) && edge.is_some_and(inside));
        cut(before.chars().next_back(), word.chars().next()) && cut(after.chars().next(), word.chars().next_back())
    })
}

/// What is wrong with a proof, if anything.
fn problem(name: &str, proof: &str) -> Option<String> {
    let (proof, needle) = match proof.split_once(" as ") {
        Some((proof, needle)) => (proof, needle),
        None => (proof, name.rsplit(' ').next().unwrap_or_default()),
    };
    let (first, rest) = proof.split_once(' ')?;
    match first {
        "refused" => {
            let found = files("src").iter().any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(rest)));
            (!found).then(|| format!("no source contains {rest:?}"))
        }
        "case" => {
            let files = files(&format!("testdata/{rest}"));
            let mut texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
            (!texts.any(|text| contains(&text, needle))).then(|| format!("the case {rest} does not contain {needle:?}"))
        }
        file => match test_body(file, rest) {
            None => Some(format!("there is no test {rest} in {file}")),
            Some(body) => (!contains(&body, needle)).then(|| format!("{file} {rest} does not contain {needle:?}")),
        },
    }
}

#[test]
fn accepted_words_have_proofs_that_exist() {
    if no_sources() {
        return;
    }
    let rows = rows();
    let problems = rows.iter().filter_map(|(name, proof)| Some(format!("{name}: {}", problem(name, proof)?)));
    let problems: Vec<_> = problems.collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(problem("option x --y", "tests/it/accepted.rs nobody_wrote_this").is_some());
}
