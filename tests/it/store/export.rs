//! Test `kiln export`: the files of an image as a tar that GNU tar reads.

use std::fs;
use std::process::Command;

use crate::support::env::each_user;
use crate::support::{TestEnv, Tree};

#[test]
fn export_writes_what_a_container_sees() {
    // O-64
    for env in each_user() {
        let context = env.context(
            "-- Dockerfile --\nFROM busybox\nCOPY --chown=7:8 a /a\nCOPY b /b\nCOPY --from=busybox /bin/busybox /b\n-- a 0640 --\none\n-- b --\ntwo\n",
        );
        env.build(&["-t", "app", "-o", "type=tar,dest=built.tar"], &context).ok();
        env.kiln(&["export", "-o", "one.tar", "app"]).ok();
        env.kiln(&["container", "export", "--output", "two.tar", "app"]).ok();
        let read = |name: &str| fs::read(env.dir().join(name)).expect("read");
        assert_eq!(read("one.tar"), read("two.tar"), "equal images give equal archives");
        assert_eq!(read("one.tar"), read("built.tar"));
        let tree = Tree::of_tar(&read("one.tar")[..]);
        assert_eq!(tree, env.image("app").tree());
        assert_eq!((tree["a"].mode, tree["a"].uid, tree["a"].gid), (0o640, 7, 8));
        let listed = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(env.dir().join("one.tar")).output();
        let listed = listed.expect("run tar");
        assert!(listed.status.success() && listed.stderr.is_empty(), "{}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.lines().any(|line| line.contains(" 7/8 ") && line.ends_with(" a")), "{listed}");
        let out = env.kiln(&["export", "app"]).output();
        assert_eq!((out.code, out.stdout.len()), (0, String::from_utf8_lossy(&read("one.tar")).len()));
        env.assert_swept();
    }
}

#[test]
fn export_takes_a_platform_and_names_what_is_missing() {
    let env = TestEnv::new();
    let root = env.context("-- x --\narm\n");
    env.kiln(&["import", "--platform", "linux/arm64", root.to_str().expect("UTF-8"), "arm"]).ok();
    env.kiln(&["manifest", "create", "all", "arm"]).ok();
    env.kiln(&["images", "all"]).ok().says("all").never_says("warning");
    env.kiln(&["export", "--platform", "linux/arm64", "-o", "x.tar", "all"]).ok();
    assert!(Tree::of_tar(&fs::read(env.dir().join("x.tar")).expect("read")[..]).0.contains_key("x"));
    env.kiln(&["export", "-o", "y.tar", "all"]).fails(1).says("has no image for");
    env.kiln(&["export", "--platform", "linux/s390x", "-o", "y.tar", "arm"]).fails(1).says("not for linux/s390x");
    env.kiln(&["export", "-o", "y.tar", "3f9a1c2b"]).fails(1).says("no image named");
    assert!(!env.dir().join("y.tar").exists());
    env.kiln(&["create", "app"]).fails(2).says("use kiln export IMAGE");
}
