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

use crate::support::env::testdata;

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
    let root = testdata(kind);
    let mut dirs: Vec<PathBuf> = fs::read_dir(&root).expect("cases").map(|e| e.expect("entry").path()).collect();
    dirs.sort();
    dirs.into_iter().map(|dir| Case { dir }).collect()
}

/// Compares what each case gives with what its file `golden` says, or writes the file.
fn judge(kind: &str, golden: &str, mut give: impl FnMut(&Case) -> Result<String, String>) {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases(kind) {
        let got = match give(&case) {
            Ok(got) => got,
            Err(why) => {
                wrong.push(format!("{}\n{why}", case.dir.display()));
                continue;
            }
        };
        let want = case.read(golden).unwrap_or_default();
        if got != want && bless {
            fs::write(case.dir.join(golden), got).expect("write");
        } else if got != want {
            wrong.push(format!("{}\n--- want\n{want}\n--- got\n{got}", case.dir.display()));
        }
        let ids = case.read("ids").unwrap_or_default();
        assert!(!ids.trim().is_empty(), "{} says which ids it covers", case.name());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn there_are_no_two_cases_with_one_text() {
    let mut seen: Vec<(Vec<u8>, PathBuf)> = Vec::new();
    for case in cases("dockerfile").into_iter().chain(cases("dockerfile-bad")) {
        let text = case.bytes();
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == text) {
            panic!("{} repeats {}", case.dir.display(), Path::new(other).display());
        }
        seen.push((text, case.dir));
    }
}
