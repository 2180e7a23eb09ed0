//! Test contexts: their sources (O-1, O-5, P-21) and the files that a build may see (G-1…G-12).

mod bad;
mod ignore;
mod index;
mod kinds;
mod oracle;
mod ssh;

use std::path::Path;
use std::process::Command;

/// Runs a shell command in `dir`.
#[track_caller]
fn sh(dir: &Path, line: &str) {
    let done = Command::new("sh").args(["-ec", line]).current_dir(dir).output().expect("run sh");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}
