//! Test that the files that a RUN sees equal those of the image, as umoci unpacks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::env::testdata;
use crate::support::tree::{Node, Tree};
use crate::support::{TestEnv, requires};

fn listed(json_lines: &[u8]) -> Tree {
    let mut tree = Tree::default();
    for line in json_lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        let of: Value = serde_json::from_slice(line).expect("JSON");
        let number = |key: &str| of[key].as_u64().unwrap_or(0);
        let text = |key: &str| of[key].as_str().unwrap_or("").to_owned();
        let kind = ["dir", "file", "link", "fifo", "char"].into_iter().find(|k| *k == of["kind"]).expect("a kind");
        let xattrs: BTreeMap<String, String> = serde_json::from_value(of["xattrs"].clone()).expect("xattrs");
        let mode = u32::try_from(number("mode")).expect("a mode");
        let node = Node {
            kind,
            mode,
            uid: number("uid"),
            gid: number("gid"),
            size: number("size"),
            mtime: of["mtime"].as_i64(),
            link: text("link"),
            xattrs,
            content: text("content"),
        };
        tree.0.insert(text("path"), node);
    }
    tree
}

/// A context with the scripts of `testdata/seen`, and a Dockerfile that runs two of them and then `more`. The scripts
/// are mounted, so that they are in no layer.
pub(super) fn context(env: &TestEnv, more: &str) -> PathBuf {
    let run = |script: &str| format!("RUN --mount=target=/run/scripts python3 -B /run/scripts/{script}.py\n");
    let context = env.context(&format!("-- Dockerfile --\nFROM python\n{}{}{more}", run("make"), run("change")));
    for script in ["make.py", "change.py", "list.py"] {
        fs::copy(testdata("seen").join(script), context.join(script)).expect("copy a script");
    }
    context
}

/// The tree without what the listing cannot contain: itself, the time of its directory, and files of the base under
/// mounts. Anything else under a mount would be a trace of it, and is kept so that the comparison finds it.
fn comparable(mut tree: Tree, base: &Tree) -> Tree {
    tree.0.remove("listing");
    if let Some(root) = tree.0.get_mut(".") {
        root.mtime = None;
    }
    let mounted = ["proc", "sys", "dev", "etc/hosts", "etc/resolv.conf"];
    tree.0.retain(|path, _| !mounted.iter().any(|m| path == m && base.has(m)));
    tree
}

#[test]
fn image_unpacked_by_umoci_matches_what_run_saw() {
    requires!(userns, overlay, umoci);
    let env = TestEnv::with("python");
    let root = requires::is_root();
    let device =
        if root { "RUN python3 -c 'import os; os.mknod(\"/made/null\", 0o20640, os.makedev(1, 3))'\n" } else { "" };
    let context = context(&env, &format!("{device}RUN --mount=target=/run/scripts python3 -B /run/scripts/list.py\n"));
    env.build(&["-t", "seen"], &context).ok();
    let image = env.image("seen");
    let mut seen = listed(&image.content("listing"));
    seen.0.get_mut(".").expect("the root").mtime = None;
    assert!(seen.0.len() > 2000, "the listing is whole: {}", seen.0.len());

    let base = env.image("python");
    // First with a plain tar reader, which needs no privilege.
    comparable(image.tree(), &base.tree()).assert_same(&seen);
    if root {
        comparable(image.umoci_tree(), &base.tree()).assert_same(&seen);
        let node = &seen["made/null"];
        assert_eq!((node.kind, node.link.as_str(), node.mode), ("char", "1:3", 0o640));
    }

    // Listing and image could both lack a file; check the important ones by name.
    let made = |path: &str| &seen[path];
    assert_eq!((made("made/setuid").mode, made("made/setuid").uid, made("made/setuid").gid), (0o6755, 1234, 5678));
    assert_eq!((made("made/sticky").mode, made("made/sticky").mtime), (0o3777, Some(123_456_789)));
    assert_eq!(made("made/attributes").xattrs["user.note"], "616e792000206279746573");
    assert_eq!(made("made/attributes").xattrs["security.capability"], "0100000200040000000000000000000000000000");
    assert_eq!((made("made/empty").kind, made("var/log").kind), ("dir", "file"));
    for gone in ["etc/issue", "usr/share/doc", "made/two", "made/big"] {
        assert!(!seen.has(gone), "{gone}");
    }
    let first = image.layer_tree(base.layers.len());
    assert!(
        first["made/one"].kind == "file" && first["made/two"].kind == "hard" && first["made/two"].link == "made/one",
        "two names of one file are one file in the layer"
    );
    env.assert_swept();
}
