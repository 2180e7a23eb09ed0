//! Test that the examples in README.md and docs run as written.
//!
//! Every fenced block marked `sh` runs, in document order, in one directory with a Dockerfile, `hello.txt` and
//! `rootfs.tar`. Blocks marked `sh no-run` need a network or another tool; a unit test of `cli::args` parses their kiln
//! commands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::env::{binary, fixture, testdata};
use crate::support::{Registry, TestEnv};

const CONTEXT: &str = "
-- Dockerfile --
FROM base
RUN --mount=type=cache,target=/cache echo built > /built
COPY hello.txt /
-- hello.txt --
hello
";

/// `README.md` and every page of `docs`. They are next to `testdata`, also for tests of the plain user.
fn documents() -> Vec<PathBuf> {
    let root = testdata("..");
    let pages = fs::read_dir(root.join("docs")).expect("list docs").map(|entry| entry.expect("list docs").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|ext| ext == "md"));
    let mut all: Vec<PathBuf> = pages.chain([root.join("README.md")]).collect();
    all.sort();
    all
}

/// The shell blocks of a document: whether each runs, and its text.
fn blocks(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match info {
            "sh" => found.push((true, body.join("\n"))),
            "sh no-run" => found.push((false, body.join("\n"))),
            other => assert!(!other.starts_with("sh"), "unknown kind of block: {other}"),
        }
    }
    found
}

/// Runs the blocks of one document in order.
fn run(document: &Path, scripts: &[String], registry: &Registry) {
    let env = TestEnv::new();
    let dir = env.context(CONTEXT);
    fs::copy(fixture("busybox").join("rootfs.tar"), dir.join("rootfs.tar")).expect("copy the root file system");
    let bin = env.dir().join("bin");
    fs::create_dir(&bin).expect("create");
    symlink(binary(), bin.join("kiln")).expect("symlink");
    let host = registry.host();
    let config = env.dir().join("home/.config/containers");
    fs::create_dir_all(&config).expect("create");
    fs::write(config.join("registries.conf"), format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n"))
        .expect("write");
    for script in scripts {
        let out = Command::new("sh")
            .args(["-euc", script])
            .env_clear()
            .env("PATH", format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()))
            .env("HOME", env.dir().join("home"))
            .env("TMPDIR", env.dir().join("tmp"))
            .env("KILN_ROOT", env.store())
            .env("REGISTRY", &host)
            .current_dir(&dir)
            .output()
            .expect("run sh");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}: {}\n{script}\n{said}", document.display(), out.status);
    }
}

#[test]
fn documented_commands_succeed() {
    requires!(userns, overlay, docker_registry, skopeo);
    let registry = Registry::start();
    let mut ran = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("read");
        let scripts: Vec<String> = blocks(&text).into_iter().filter(|(runs, _)| *runs).map(|(_, body)| body).collect();
        if !scripts.is_empty() {
            run(&document, &scripts, &registry);
            ran += scripts.len();
        }
    }
    assert!(ran >= 5, "only {ran} blocks ran");
}
