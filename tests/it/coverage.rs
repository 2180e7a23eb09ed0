//! Test that every behaviour id is covered by a case or a test, and which Dockerfile a command reads.
//!
//! `testdata/ids.txt` lists the ids of the Dockerfile language, which cases of `testdata` cover. Tests name the others:
//! `testdata/ids-of-commands.txt` has those of RUN, its mounts, the sandbox and secrets, `testdata/ids-of-files.txt`
//! those of COPY, ADD, contexts and archives.
//!
//! `kiln check --targets` runs in each directory `testdata/lookup/<case>/`, with the arguments in `args` and the
//! standard input in `stdin`; `want` holds the names of the stages, or the error. `BLESS=1` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::env::testdata;
use crate::support::golden::cases;
use crate::support::{Golden, TestEnv};

/// The folders whose cases have a file `ids`.
const KINDS: [&str; 5] = ["config", "dockerfile", "dockerfile-bad", "lookup", "plan"];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn language_ids_each_have_a_case() {
    let list = read(&testdata("ids.txt"));
    let wanted: BTreeSet<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    let mut covered: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for case in KINDS.iter().flat_map(|kind| cases(&testdata(kind))) {
        for id in read(&case.join("ids")).split_whitespace() {
            covered.entry(id.to_owned()).or_default().push(case.clone());
        }
    }
    let holes: Vec<_> = wanted.iter().filter(|id| !covered.contains_key(**id)).collect();
    assert!(holes.is_empty(), "no case covers {holes:?}");
    // An id that is not listed is a typo.
    let families: BTreeSet<&str> =
        wanted.iter().filter_map(|id| id.split_once('-')).map(|(family, _)| family).collect();
    for (id, cases) in &covered {
        let family = id.split_once('-').map(|(family, _)| family).unwrap_or_default();
        assert!(wanted.contains(id.as_str()) || !families.contains(family), "{id} of {cases:?} is not in ids.txt");
    }
}

/// The ids that a test names: in its body (`M-7`) or at the end of its name (`_m_7`, `_s30`).
fn named(file: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for test in file.split("#[test]").skip(1) {
        let name = test.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).map_or("", |(name, _)| name);
        let parts: Vec<&str> = name.split('_').collect();
        for (i, part) in parts.iter().enumerate() {
            let (letter, digits) = part.split_at(part.len().min(1));
            let digits = if digits.is_empty() { parts.get(i + 1).copied().unwrap_or("") } else { digits };
            found.insert(format!("{}-{digits}", letter.to_uppercase()));
        }
        for word in test.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            found.insert(word.to_owned());
        }
    }
    found
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.expect("walk").into_path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

#[test]
fn command_and_file_ids_are_each_named_by_a_test() {
    // For the plain user, `scripts/test` copies only what the tests need, without the sources.
    if std::env::var_os("KILN_TEST_HOME").is_some() {
        return;
    }
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ids = |dir: &str| -> BTreeSet<String> {
        sources(&base.join(dir)).iter().flat_map(|path| named(&read(path))).collect()
    };
    let (whole, parts) = (ids("tests/it"), ids("src"));
    let commands = read(&testdata("ids-of-commands.txt"));
    let files = read(&testdata("ids-of-files.txt"));
    let mut holes: Vec<&str> = files.lines().filter(|id| !id.starts_with('#') && !whole.contains(*id)).collect();
    for line in commands.lines().filter(|line| !line.starts_with('#')) {
        let (id, why) = line.split_once(' ').unwrap_or((line, ""));
        // Mounts and security must be tested with the real binary; ids of RUN may be covered by unit tests.
        let covered = whole.contains(id) || id.starts_with("R-") && parts.contains(id);
        match why {
            "" if !covered => holes.push(id),
            "" => {}
            _ => assert!(!covered, "{id} is named by a test but listed as an exception: {why}"),
        }
    }
    assert!(holes.is_empty(), "no test names {holes:?}");
}

#[test]
fn test_data_has_enough_cases() {
    let count = |kind: &str| cases(&testdata(kind)).len();
    let refused = cases(&testdata("plan")).iter().filter(|case| is_refused(&read(&case.join("plan")))).count();
    let accepted = count("dockerfile") + count("plan") - refused;
    let refused = count("dockerfile-bad") + refused;
    assert!(accepted >= 150 && refused >= 100, "{accepted} accepted, {refused} refused");
}

/// Whether the planner refused: its output is then a list of problems.
fn is_refused(plan: &str) -> bool {
    plan.lines().any(|line| line.starts_with("error "))
}

#[test]
fn dockerfile_lookup_follows_rules() {
    // P-21
    let mut golden = Golden::new();
    for case in cases(&testdata("lookup")) {
        let env = TestEnv::new();
        let more = fs::read_to_string(case.join("args")).unwrap_or_default();
        let args: Vec<&str> = ["check", "--targets", "--format=json"].into_iter().chain(more.lines()).collect();
        let stdin = fs::read(case.join("stdin")).unwrap_or_default();
        let done = env.kiln(&args).dir(&case).stdin(&stdin).output();
        let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
        let names = answer["targets"].as_array().into_iter().flatten().filter_map(|target| target["name"].as_str());
        let names: String = names.map(|name| format!("{name}\n")).collect();
        golden.compare(&case.join("want"), &format!("{names}{}exit {}\n", done.stderr, done.code));
    }
    golden.finish();
}
