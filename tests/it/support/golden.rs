//! Golden files: outputs are compared with files, or written to them with `BLESS=1`.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders below `dir` (or files), one per case, in order.
pub fn cases(dir: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(dir).expect("list").map(|e| e.expect("entry").path()).collect();
    cases.sort();
    cases
}

/// Compares texts with files, and reports all differences at once.
#[must_use = "nothing fails before `.finish()`"]
pub struct Golden {
    bless: bool,
    wrong: Vec<String>,
}

impl Golden {
    pub fn new() -> Golden {
        Golden { bless: std::env::var_os("BLESS").is_some(), wrong: Vec::new() }
    }

    /// Compares `got` with the file, or writes the file.
    pub fn compare(&mut self, file: &Path, got: &str) {
        let want = fs::read_to_string(file).unwrap_or_default();
        if got != want && self.bless {
            fs::write(file, got).expect("write");
        } else if got != want {
            self.wrong(file, &format!("--- want\n{want}\n--- got\n{got}"));
        }
    }

    /// Records another failure of a case.
    pub fn wrong(&mut self, case: &Path, why: &str) {
        self.wrong.push(format!("{}\n{why}", case.display()));
    }

    /// Panics if there were failures.
    pub fn finish(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n\n"));
    }
}
