//! Test `kiln import`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::env::fixture;
use crate::support::{TestEnv, Tree};

fn sh(dir: &Path, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("run sh");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A small root file system with links, modes, times and empty directories.
fn rootfs(env: &TestEnv) -> std::path::PathBuf {
    let root = env.context(
        "-- bin/tool 4755 --\n#!/bin/sh\n-- etc/passwd --\nroot:x:0:0::/:/bin/sh\n-- etc/again = etc/passwd --\n\
         -- tmp/ 1777 --\n-- var/empty/ 0700 --\n-- lib -> usr/lib --\n",
    );
    symlink("../../../outside", root.join("var/climber")).expect("symlink");
    sh(&root, "mkfifo -m 0600 var/pipe; touch -h -d @1234567 etc/passwd lib; touch -d @99 var/empty");
    root
}

#[test]
fn import_gives_same_image_for_every_compression() {
    requires!(xz, bzip2, zstd);
    let env = TestEnv::new();
    let root = rootfs(&env);
    sh(env.dir(), &format!("tar --numeric-owner -C {} -cf plain.tar .", root.display()));
    sh(env.dir(), "gzip -k plain.tar; xz -k plain.tar; bzip2 -k plain.tar; zstd -q -k plain.tar");
    let want = Tree::of_tar(fs::File::open(env.dir().join("plain.tar")).expect("open"));
    let mut digests = std::collections::BTreeSet::new();
    for suffix in ["", ".gz", ".xz", ".bz2", ".zst"] {
        digests.insert(env.kiln(&["import", &format!("plain.tar{suffix}"), "root:1"]).ok().trim().to_owned());
    }
    let plain = fs::read(env.dir().join("plain.tar")).expect("read");
    digests.insert(env.kiln(&["import", "-", "root:stdin"]).stdin(&plain).ok().trim().to_owned());
    assert_eq!(digests.len(), 1, "the compression of the archive makes no difference");
    assert_eq!(env.image("root:1").layer_tree(0), want);
    env.assert_swept();
}

#[test]
fn imported_image_is_read_by_skopeo_and_umoci() {
    requires!(root, skopeo, umoci);
    let env = TestEnv::new();
    env.kiln(&["import", fixture("busybox").join("rootfs.tar").to_str().expect("UTF-8"), "busybox"]).ok();
    let image = env.image("busybox");
    image.skopeo_check();
    assert_eq!(image.umoci_tree().0.keys().collect::<Vec<_>>(), image.tree().0.keys().collect::<Vec<_>>());
}

#[test]
fn import_of_directory_keeps_owners_links_and_xattrs() {
    requires!(root, umoci);
    let env = TestEnv::new();
    let root = rootfs(&env);
    sh(
        &root,
        "chown -h 7:8 etc/passwd lib; chmod 2755 bin/tool; chown 100000:65534 var .; chmod 1750 .; mknod -m 620 var/null c 1 3",
    );
    sh(&root, "setfattr -n user.note -v hello etc/passwd; setcap cap_net_raw+ep bin/tool 2>/dev/null || true");
    let (mut want, first) = (Tree::of_dir(&root), env.kiln(&["import", root.to_str().expect("UTF-8"), "tree"]).ok());
    let mut got = env.image("tree").umoci_tree();
    assert_eq!(got["etc/again"], got["etc/passwd"], "hard links stay together");
    // The root directory is compared separately.
    let (top, imported) = (want.0.remove("."), env.image("tree").tree().0.remove("."));
    got.0.remove(".");
    assert_eq!(got, want);
    assert_eq!(imported, top, "the directory itself");
    let again = env.kiln(&["import", root.to_str().expect("UTF-8"), "again"]).ok();
    assert_eq!(first.trim(), again.trim(), "equal trees, equal images");
}

#[test]
fn import_by_plain_user_maps_subordinate_ids() {
    requires!(root, kiln_test, userns);
    let env = TestEnv::of_plain_user();
    let root = rootfs(&env);
    sh(env.dir(), &format!("chown -hR kiln-test:kiln-test {}", root.display()));
    // As a rootless build or debootstrap leaves it: files of subordinate ids, unreadable to the user.
    let first = "$(grep ^kiln-test: /etc/subuid | cut -d: -f2)";
    sh(
        &root,
        &format!("chown {first}:{first} var/empty; chown $(({first}+32)) bin; chmod 4755 bin/tool; chmod 0700 bin"),
    );
    env.kiln(&["import", root.to_str().expect("UTF-8"), "mine"]).ok();
    let tree = env.image("mine").tree();
    let ids = |path: &str| (tree[path].uid, tree[path].gid);
    assert_eq!(ids("etc/passwd"), (0, 0), "the user is root of its namespace");
    assert_eq!(ids("var/empty"), (1, 1));
    assert_eq!(ids("bin").0, 33);
    assert_eq!(tree["bin/tool"].mode, 0o4755);
    // Archives need no mapping and keep their owners.
    env.import("busybox");
    env.image("busybox").tree();
    env.assert_swept();
}

#[test]
fn import_change_applies_dockerfile_instructions() {
    let env = TestEnv::new();
    let tar = fixture("busybox").join("rootfs.tar");
    let tar = tar.to_str().expect("UTF-8");
    let args = ["import", "-c", "CMD [\"sh\"]", "--change", "ENV A=1 B=$A", "-c", "user  nobody", "-c", "EXPOSE 80"];
    env.kiln(&[&args[..], &["-m", "from scratch", "--platform", "linux/arm64", tar, "app:1"]].concat()).ok();
    let config = env.image("app:1").config;
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(config["config"]["User"], "nobody");
    assert_eq!(config["architecture"], "arm64");
    assert!(config["config"]["ExposedPorts"]["80/tcp"].is_object(), "{config:#}");
    assert_eq!(config["history"][0]["comment"], "from scratch");
    for (change, why) in [
        ("RUN true", "RUN does not set metadata"),
        ("COPY a b", "COPY does not set metadata"),
        ("FROM x", "FROM does not set metadata"),
        ("CDM sh", "CDM"),
        ("ENV", "ENV"),
    ] {
        env.kiln(&["import", "--change", change, tar, "app:2"]).fails(2).says("--change").says(why);
    }
    let names: Value = serde_json::from_str(&env.kiln(&["images", "--format", "json"]).ok()).expect("JSON");
    assert!(!names.to_string().contains("app:2"), "{names:#}");
}

#[test]
fn failed_import_leaves_store_unchanged() {
    // S-30, S-40
    let env = TestEnv::new();
    let dir = env.context("-- a --\nx\n-- .wh.a --\n");
    sh(env.dir(), &format!("tar -C {} -cf marker.tar .", dir.display()));
    sh(env.dir(), &format!("tar -C {} -P --transform 's,^a$,../a,' -cf climb.tar a", dir.display()));
    sh(env.dir(), "head -c 9000 /dev/urandom > noise; tar -cf whole.tar noise; head -c 5000 whole.tar > cut.tar");
    sh(env.dir(), "gzip -k whole.tar; head -c 5000 whole.tar.gz > cut.tar.gz; : > empty");
    env.kiln(&["images"]).ok();
    for (source, code, why) in [
        ("missing.tar", 1, "open missing.tar: No such file"),
        ("noise", 1, "noise"),
        ("empty", 1, "nothing in it"),
        ("marker.tar", 1, ".wh."),
        ("climb.tar", 1, "../a"),
        ("cut.tar", 1, "cut.tar: cannot read the archive: unexpected end of file\nhint: fetch or create the archive"),
        ("cut.tar.gz", 1, "damaged or cut short"),
    ] {
        env.kiln(&["import", source, "bad"]).fails(code).says(why);
        assert_eq!(fs::read_dir(env.store().join("blobs/sha256")).expect("blobs").count(), 0, "{source}");
        env.assert_swept();
    }
    env.kiln(&["import", "whole.tar", "Not:A:Name"]).fails(2);
    env.kiln(&["import", "whole.tar", "a@sha256:00"]).fails(2);
    env.kiln(&["images", "-q"]).ok().never_says("sha256");
}
