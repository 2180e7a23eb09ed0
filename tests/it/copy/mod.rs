//! Test COPY, ADD and WORKDIR (C-1…C-31, I-7) through the binary.
//!
//! Each row is a Dockerfile and the whole resulting tree, which must also be what umoci unpacks.

mod add;
mod archives;
mod attacks;
mod bad;
mod destination;
mod flags;
mod keys;
mod metadata;
mod remote;
mod repositories;
mod sources;
mod times;

use std::path::Path;

use crate::support::image::Image;
use crate::support::requires::{have, is_root};
use crate::support::tree::{Node, Tree};
use crate::support::{TestEnv, env::Done};

/// A row: ids, the Dockerfile without `FROM scratch`, and the tree of the image as [`list`] prints it.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// A row that fails: ids, the Dockerfile without `FROM scratch`, and parts of standard error.
type Refused = (&'static str, &'static str, &'static [&'static str]);

/// Lists the tree: `path/ 0755`, `path 0644 "text"`, `path -> target`; the owner follows the mode unless it is 0:0.
fn list(image: &Image) -> Vec<String> {
    let tree = image.tree();
    let line = |(path, node): (&String, &Node)| {
        let owner = if (node.uid, node.gid) == (0, 0) { String::new() } else { format!(" {}:{}", node.uid, node.gid) };
        let mode = format!("{:04o}{owner}", node.mode);
        match node.kind {
            "dir" => format!("{path}/ {mode}"),
            "link" => format!("{path} -> {}{owner}", node.link),
            "file" => format!("{path} {mode} {:?}", String::from_utf8_lossy(&image.content_of(node)).trim_end()),
            kind => format!("{path} {kind} {mode} {}", node.link).trim_end().to_owned(),
        }
    };
    tree.0.iter().map(line).collect()
}

/// Checks that umoci unpacks the same tree as the reader of the tests.
#[track_caller]
fn umoci_agrees(image: &Image, ids: &str) {
    if !is_root() || !have("umoci") {
        return;
    }
    let plain = |mut tree: Tree| {
        tree.0.remove(".");
        // Directories that are in no layer get their time from umoci.
        tree.0.values_mut().filter(|n| n.kind == "dir").for_each(|n| n.mtime = None);
        tree
    };
    assert_eq!(plain(image.umoci_tree()), plain(image.tree()), "{ids}");
}

#[track_caller]
fn build(env: &TestEnv, context: &Path, dockerfile: &str, args: &[&str]) -> (Done, String) {
    let file = env.dir().join("Dockerfile");
    std::fs::write(&file, format!("FROM scratch\n{dockerfile}\n")).expect("write the Dockerfile");
    let name = format!("row-{}", std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos());
    let file = file.to_str().expect("UTF-8").to_owned();
    let all = [&["-t", &name, "-f", &file], args].concat();
    (env.build(&all, context).output(), name)
}

/// Builds every row and compares.
#[track_caller]
fn check(context: &str, rows: &[Row]) {
    let env = TestEnv::new();
    let context = env.context(context);
    check_in(&env, &context, rows);
}

#[track_caller]
fn check_in(env: &TestEnv, context: &Path, rows: &[Row]) {
    let mut wrong = String::new();
    for (ids, dockerfile, want) in rows {
        let (done, name) = build(env, context, dockerfile, &[]);
        if done.code != 0 {
            wrong += &format!("{ids}: {dockerfile}\n  {}\n", done.stderr.trim());
            continue;
        }
        let image = env.image(&name);
        let got = list(&image);
        let want: Vec<String> = want.iter().map(|s| (*s).to_owned()).collect();
        if got != want {
            wrong += &format!("{ids}: {dockerfile}\n  want {want:#?}\n  got {got:#?}\n");
        } else {
            umoci_agrees(&image, ids);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Builds every row, which must fail with exit code 1 and the expected texts.
#[track_caller]
fn refuse(context: &str, rows: &[Refused]) {
    let env = TestEnv::new();
    let context = env.context(context);
    refuse_in(&env, &context, rows);
}

#[track_caller]
fn refuse_in(env: &TestEnv, context: &Path, rows: &[Refused]) {
    let mut wrong = String::new();
    for (ids, dockerfile, says) in rows {
        let (done, _) = build(env, context, dockerfile, &[]);
        let missing: Vec<_> = says.iter().filter(|text| !done.stderr.contains(**text)).collect();
        if done.code != 1 || !missing.is_empty() {
            wrong += &format!("{ids}: {dockerfile}\n  code {}, missing {missing:?}\n{}\n", done.code, done.stderr);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
