//! Test that a tree with every kind of entry survives import, build and export.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{TestEnv, Tree};

fn sh(dir: &Path, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("run sh");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A directory with every kind of entry that a tar archive can hold.
fn zoo(env: &TestEnv) -> PathBuf {
    let dir = env.dir().join("zoo");
    fs::create_dir(&dir).expect("create");
    sh(
        &dir,
        r#"
        mkdir -p etc bin empty "new
line" d/e/f
        echo a > etc/a; ln etc/a etc/b; ln etc/a d/c
        mkfifo -m 600 pipe; mknod -m 620 null c 1 3; mknod disk b 259 70000
        printf x > bin/su; chmod 6755 bin/su; printf x > bin/ping; chmod 1777 empty
        printf c > attrs; setfattr -n user.k -v 0x0a3d0a00ff attrs; setfattr -n user.d -v dir d
        truncate -s 3M sparse; printf end >> sparse
        n=$(printf 'n%.0s' $(seq 150)); mkdir "$n"; printf long > "$n/$n"
        printf raw > "$(printf 'raw\377\376')"; printf case > Case; printf case > case
        ln -s "$(printf 't%.0s' $(seq 300))" longlink; ln -s ../../../etc up; ln -s loop loop
        chown -h 5:6 up; printf o > owned; chown 3000000:2500000 owned; printf big > big; chown 4294967294:1 big
        # A capability set whose bytes hold a line end.
        setfattr -n security.capability -v 0x010000020a0a0000000000000000000000000000 bin/ping
        find . -depth -exec touch -h -d @1000000000 {} +
        touch -d @0 etc/a; printf neg > neg; touch -d @-5 neg; printf f > frac; touch -d @7.25 frac
        touch -d @1000000001 .
        "#,
    );
    dir
}

/// Without the root directory, which umoci creates.
fn without_root(mut tree: Tree) -> Tree {
    tree.0.remove(".");
    tree
}

#[test]
fn directory_round_trips_through_import_build_and_export() {
    requires!(root, umoci);
    let env = TestEnv::new();
    let dir = zoo(&env);
    let want = without_root(Tree::of_dir(&dir));
    env.kiln(&["import", dir.to_str().expect("UTF-8"), "zoo"]).ok();
    without_root(env.image("zoo").umoci_tree()).assert_same(&want);
    let context = env.context("-- Dockerfile --\nFROM zoo\nLABEL built=yes\nCOPY added /added\n-- added --\nx\n");
    let out = env.dir().join("out");
    env.build(&["-t", "app", "-o", &format!("type=oci-layout,dest={}", out.display())], &context).ok();
    let mut got = without_root(env.image("app").umoci_tree());
    assert!(got.0.remove("added").is_some());
    got.assert_same(&want);
    let names = crate::support::Image::names(&out);
    crate::support::Image::open(&out, &names[0]).skopeo_check();
}

#[test]
fn archive_round_trips_in_every_tar_format() {
    requires!(root, umoci);
    let env = TestEnv::new();
    let dir = zoo(&env);
    let want = without_root(Tree::of_dir(&dir));
    for (name, options) in [
        ("pax", "--format=posix --xattrs --xattrs-include=*"),
        ("sparse", "--format=posix --xattrs --xattrs-include=* -S"),
        ("gnu", "--format=gnu --sort=name"),
        ("old", "--format=gnu -S"),
    ] {
        sh(env.dir(), &format!("tar {options} --numeric-owner -C zoo -cf {name}.tar ."));
        env.kiln(&["import", &format!("{name}.tar"), name]).ok();
        // The GNU format cannot hold extended attributes.
        let mut want = want.clone();
        if name == "gnu" || name == "old" {
            want.0.values_mut().for_each(|node| node.xattrs.clear());
        }
        without_root(env.image(name).umoci_tree()).assert_same(&want);
    }
}

#[test]
fn run_sees_added_files_and_its_changes_are_stored() {
    requires!(root, umoci, overlay);
    let env = TestEnv::with_busybox();
    let dir = zoo(&env);
    sh(env.dir(), "tar --format=posix --xattrs --xattrs-include=* --numeric-owner -C zoo -cf zoo.tar .");
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nADD zoo.tar /zoo\n\
         RUN cd /zoo && stat -c '%n %F %a %u:%g %s %Y %t:%T' $(ls -A | grep -v '^new\\|^line') && \
         [ $(stat -c %h etc/a) = 3 ] && [ $(stat -c %a bin/su) = 6755 ] && [ \"$(readlink up)\" = ../../../etc ] && [ \"$(cat n*/n*)\" = long ]\n\
         RUN chmod 700 /zoo/d /zoo/bin/su /zoo/null && rm /zoo/pipe && touch -d @1000000000 /zoo /zoo/d\n",
    );
    fs::rename(env.dir().join("zoo.tar"), context.join("zoo.tar")).expect("move");
    env.build(&["-t", "app"], &context).ok().says("owned regular file 644 3000000:2500000 1 1000000000");
    let mut want = without_root(Tree::of_dir(&dir));
    for name in ["d", "bin/su", "null"] {
        want.0.get_mut(name).expect(name).mode = 0o700;
    }
    want.0.remove("pipe");
    let got = env.image("app").umoci_tree().below("zoo");
    got.assert_same(&want);
}
