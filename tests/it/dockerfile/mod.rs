//! The Dockerfile language, held by cases in folders.
//!
//! `testdata/dockerfile/<case>/` holds a `Dockerfile` that is accepted and its tree in `ast`; with an `env`
//! (`NAME=value` lines) the tree ends with what the words of `ENV`, `WORKDIR`, `EXPOSE` and heredocs expand to.
//! `testdata/dockerfile-bad/<case>/` holds one that is refused, by the parser or by the plan, and in `errors` the full
//! text that a user reads. Both name the behaviour ids they cover in `ids`. `BLESS=1` writes `ast` and `errors`.

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

/// One folder.
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

/// Compares what each case gives with what its file `golden` says, or writes the file.
fn compare_cases(kind: &str, golden: &str, mut give: impl FnMut(&Case) -> Result<String, String>) {
    let mut texts = Golden::new();
    for case in cases(kind) {
        match give(&case) {
            Ok(got) => texts.compare(&case.dir.join(golden), &got),
            Err(why) => texts.wrong(&case.dir, &why),
        }
        let ids = case.read("ids").unwrap_or_default();
        assert!(!ids.trim().is_empty(), "{} says which ids it covers", case.name());
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
