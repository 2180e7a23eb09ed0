//! Test the Dockerfile language with golden files.
//!
//! `testdata/dockerfile/<case>/` holds an accepted `Dockerfile` and its syntax tree in `ast`. With an `env`
//! (`NAME=value` lines), the tree ends with the expansions of the words of `ENV`, `WORKDIR`, `EXPOSE` and heredocs.
//! `testdata/dockerfile-bad/<case>/` holds one that the parser or planner refuses, and the full message in `errors`. In
//! both, `ids` lists the behaviour ids that the case covers. `BLESS=1` writes `ast` and `errors`.

mod accepted;
mod limits;
mod mutated;
mod oracle;
mod refused;

use std::fs;
use std::path::{Path, PathBuf};

use kiln::dockerfile::Source;

use crate::support::Golden;
use crate::support::env::testdata;
use crate::support::golden;

/// A case: one folder.
struct Case {
    dir: PathBuf,
}

impl Case {
    fn name(&self) -> String {
        self.dir.file_name().expect("a folder").to_string_lossy().into_owned()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.dir.join("Dockerfile")).expect("a case has a Dockerfile")
    }

    fn source(&self) -> Source {
        Source::new("Dockerfile", self.bytes())
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(name)).ok()
    }
}

/// All cases below `testdata/<kind>`, in order.
fn cases(kind: &str) -> Vec<Case> {
    golden::cases(&testdata(kind)).into_iter().map(|dir| Case { dir }).collect()
}

/// Compares the result of each case with its file `golden`, or writes the file.
fn compare_cases(kind: &str, golden: &str, mut give: impl FnMut(&Case) -> Result<String, String>) {
    let mut texts = Golden::new();
    for case in cases(kind) {
        match give(&case) {
            Ok(got) => texts.compare(&case.dir.join(golden), &got),
            Err(why) => texts.wrong(&case.dir, &why),
        }
        let ids = case.read("ids").unwrap_or_default();
        assert!(!ids.trim().is_empty(), "{} has no ids", case.name());
    }
    texts.finish();
}

#[test]
fn test_cases_are_unique() {
    let mut seen: Vec<(Vec<u8>, PathBuf)> = Vec::new();
    for case in cases("dockerfile").into_iter().chain(cases("dockerfile-bad")) {
        let text = case.bytes();
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == text) {
            panic!("{} repeats {}", case.dir.display(), Path::new(other).display());
        }
        seen.push((text, case.dir));
    }
}
