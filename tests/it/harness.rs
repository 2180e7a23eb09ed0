//! Test the helpers of the tests on known input.

use std::process::Command;

use crate::support::dir::{Dir, sweep};
use crate::support::env::fixture;
use crate::support::{Image, Registry, TestEnv, Tree, canary, image};

#[test]
fn context_notation_writes_files_links_and_modes() {
    let env = TestEnv::new();
    let context = env.context(
        "
-- a/run.sh 0755 --
echo 'hi'
-- b -> a/run.sh --
-- c = a/run.sh --
-- empty/ 0700 --
-- two words --
x
",
    );
    let tree = Tree::of_dir(&context);
    assert_eq!(tree.names(), [".", "a", "a/run.sh", "b", "c", "empty", "two words"]);
    assert_eq!((tree["a/run.sh"].mode, tree["a/run.sh"].size), (0o755, 10));
    assert_eq!(tree["b"].link, "a/run.sh");
    assert_eq!(tree["c"].content, tree["a/run.sh"].content);
    assert_eq!((tree["empty"].kind, tree["empty"].mode), ("dir", 0o700));
    assert_eq!(tree["two words"].content, image::sha256(b"x\n"));
}

#[test]
fn test_tree_applies_layers_as_image_spec_says() {
    let file = |text: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    let tar = |members: &[(&str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in members {
            tar.append_data(&mut file(text), path, text.as_bytes()).expect("append");
        }
        Tree::of_tar(&tar.into_inner().expect("finish")[..])
    };
    let mut tree = tar(&[("keep", "1"), ("gone", "2"), ("d/x", "3"), ("d/y", "4"), ("e/z", "5")]);
    tree.lay(&tar(&[(".wh.gone", ""), ("d/.wh..wh..opq", ""), ("d/new", "6"), ("e", "now a file")]));
    assert_eq!(tree.names(), ["d/new", "e", "keep"]);
}

#[test]
fn canary_is_found_in_plain_and_compressed_files() {
    let dir = Dir::new();
    let secret = canary::text();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, format!("..{secret}..").as_bytes()).expect("compress");
    std::fs::write(dir.path().join("plain"), format!("x{secret}")).expect("write");
    std::fs::write(dir.path().join("packed"), gzip.finish().expect("finish")).expect("write");
    std::fs::write(dir.path().join("clean"), "nothing").expect("write");
    assert_eq!(canary::leaks(dir.path(), &secret).len(), 2);
}

#[test]
fn sweep_removes_only_directories_of_killed_tests() {
    let parent = Dir::new();
    let make = |name: &str, touched: &str| {
        let path = parent.path().join(name);
        std::fs::create_dir_all(path.join("store/layers")).expect("create");
        let status = Command::new("touch").args(["-d", touched]).arg(&path).status().expect("run touch");
        assert!(status.success());
        path
    };
    let dead = make("kiln-it-dead", "2 hours ago");
    let (young, other) = (make("kiln-it-young", "now"), make("others", "2 hours ago"));
    let alive = Dir::below(parent.path());
    Command::new("touch").args(["-d", "2 hours ago"]).arg(alive.path()).status().expect("run touch");
    sweep(parent.path());
    assert!(!dead.exists());
    assert!(young.exists() && other.exists() && alive.path().exists());
    let path = alive.path().to_owned();
    drop(alive);
    assert!(!path.exists());
}

#[test]
fn test_reader_and_umoci_see_the_same_tree() {
    requires!(umoci);
    let image = Image::open(&fixture("busybox").join("layout"), "latest:latest");
    let tree = image.tree();
    assert_eq!((tree["bin/busybox"].mode, tree["home/app"].uid), (0o755, 1000));
    assert_eq!(image.content("etc/group").split(|&b| b == b'\n').next(), Some(&b"root:x:0:"[..]));
    if crate::support::requires::is_root() {
        let mut theirs = image.umoci_tree();
        theirs.0.remove(".");
        let mut ours = tree;
        ours.0.remove(".");
        theirs.assert_same(&ours);
    }
}

#[test]
fn test_registry_returns_pushed_image() {
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let layout = fixture("busybox").join("layout");
    let name = registry.push_layout(&layout, "latest", "base/busybox:1");
    let out = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .expect("run skopeo");
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(said["Digest"], Image::open(&layout, "latest:latest").digest);
    assert!(registry.data().exists());
}
