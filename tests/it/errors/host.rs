//! Test the messages for a full disk and an unusable store.

use std::process::Command;

use super::intact;
use crate::support::TestEnv;

/// A small file system mounted at the store, unmounted when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn at(env: &TestEnv) -> Self {
        std::fs::create_dir(env.store()).expect("create");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m,mode=700", "none"]).arg(env.store());
        assert!(mount.status().expect("run mount").success());
        Self(env.store())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn full_disk_fails_step_and_leaves_store_unchanged() {
    requires!(root, userns, overlay);
    let env = TestEnv::new();
    let _small = Small::at(&env);
    let base = crate::support::env::fixture("busybox").join("rootfs.tar");
    env.kiln(&["import", base.to_str().expect("UTF-8"), "busybox"]).ok();
    let free = "free disk space, or choose another store with --root or KILN_ROOT";
    // In the command, …
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=64\n");
    env.build(&["-q", "-t", "app"], &context).fails(1).says("status 1").says(free);
    swept(&env);
    // … while its layer is written, …
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=6\n");
    let done = env.build(&["-q", "-t", "app"], &context).fails(3);
    done.says("Dockerfile:2:1").says("No space left on device\n").says(free).never_says("os error");
    swept(&env);
    // … and in COPY.
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY big /\n");
    let noise = std::fs::File::open("/dev/urandom").expect("open");
    let mut big = std::fs::File::create(context.join("big")).expect("create");
    std::io::copy(&mut std::io::Read::take(noise, 15 << 20), &mut big).expect("write");
    let done = env.build(&["-q", "-t", "app"], &context).fails(3);
    done.says("Dockerfile:2:1").says("No space left on device\n").says(free);
    swept(&env);
    env.kiln(&["images"]).ok().never_says("app");
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN echo small > /small\n");
    env.build(&["-q", "-t", "app"], &context).ok();
}

#[test]
fn full_disk_fails_context_and_download_and_leaves_nothing() {
    // Issue 4: every way in which files enter a store.
    requires!(root);
    let env = TestEnv::new();
    let context =
        env.context("-- x --\n-- Copy --\nFROM scratch\nCOPY big /\n-- Add --\nFROM scratch\nADD big.tar /\n");
    let mut big = Vec::new();
    let noise = std::fs::File::open("/dev/urandom").expect("open");
    std::io::Read::read_to_end(&mut std::io::Read::take(noise, 15 << 20), &mut big).expect("read");
    std::fs::write(context.join("big"), &big).expect("write");
    let tar = || Command::new("tar").args(["-cf", "big.tar", "big"]).current_dir(&context).status();
    assert!(tar().expect("run tar").success());
    let web = crate::support::web::Web::serve_dir(&context);
    let url = format!("FROM scratch\nADD {}/big /\n", web.url);
    env.add(&context, &format!("-- Url --\n{url}"));
    let tar = std::fs::read(context.join("big.tar")).expect("read");
    let _small = Small::at(&env);
    let full = |done: crate::support::env::Done, place: &str| {
        done.says("No space left on device").says("free disk space").says(place).never_says("os error");
        swept(&env);
    };
    for file in ["Copy", "Add", "Url"] {
        let file = context.join(file).display().to_string();
        full(env.build(&["-f", &file], &context).fails(3), ":2:1");
    }
    full(env.kiln(&["build", "-f", "Copy", "-"]).stdin(&tar).fails(3), "context");
    full(env.kiln(&["build", "-f", "Copy", &format!("{}/big.tar", web.url)]).fails(3), "fetched");
    full(env.kiln(&["build", "-f", "Copy", &context.join("big.tar").display().to_string()]).fails(3), "context");
    env.add(&context, "-- Copy --\nFROM scratch\nCOPY x /\n");
    env.build(&["-f", &context.join("Copy").display().to_string()], &context).ok();
}

#[track_caller]
fn swept(env: &TestEnv) {
    assert_eq!(std::fs::read_dir(env.store().join("scratch")).expect("list").count(), 0);
}

#[test]
fn unusable_store_error_suggests_another_root() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nLABEL a=b\n");
    let file = context.join("Dockerfile");
    let root = file.to_str().expect("UTF-8");
    let done = env.build(&["-q", "--root", root], &context).fails(3);
    done.says("Not a directory\n").says("hint: choose another store with --root or KILN_ROOT");
    let done = env.build(&["-q", "--root", context.to_str().expect("UTF-8")], &context).fails(3);
    done.says("hint: choose an empty or new directory");
    intact(&env);
}
