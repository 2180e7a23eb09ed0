//! Test cache mounts: sharing between processes, removal, export and import.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::TestEnv;
use crate::support::image::sha256;

fn dockerfile(env: &TestEnv, runs: &str) -> std::path::PathBuf {
    env.context(&format!("-- Dockerfile --\nFROM busybox\n{runs}\n"))
}

fn mounts(env: &TestEnv) -> Value {
    serde_json::from_str(&env.kiln(&["cache", "mounts", "ls", "--format", "json"]).ok()).expect("JSON")
}

/// Waits until `path` exists, for at most five minutes.
fn appears(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(300), "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn data(env: &TestEnv, id: &str) -> std::path::PathBuf {
    env.store().join("mounts").join(&sha256(id.as_bytes())[..32]).join("0/data")
}

fn filled(env: &TestEnv) {
    let fill = "RUN --mount=type=cache,target=/c,id=pip chown 7:0 /c; chmod 750 /c; echo kept > /c/file; chown 33:44 /c/file; \
                ln /c/file /c/again; ln -s /nowhere /c/link; mkdir -m 0700 /c/dir; mkfifo /c/dir/pipe";
    env.build(&[], &dockerfile(env, fill)).ok();
}

fn carried(from: &TestEnv, to: &TestEnv) {
    from.kiln(&["cache", "mounts", "export", "-o", "mounts.tar"]).ok();
    let archive = fs::read(from.dir().join("mounts.tar")).expect("an archive");
    let listed = to.kiln(&["cache", "mounts", "import", "-"]).stdin(&archive).ok();
    assert_eq!(listed.trim(), "imported pip");
    let check = "RUN --mount=type=cache,target=/c,id=pip stat -c '%n %a %u:%g %h' /c /c/file /c/again /c/dir /c/dir/pipe \
                 && cat /c/again && readlink /c/link";
    to.build(&["--progress", "plain"], &dockerfile(to, check))
        .ok()
        .says("/c 750 7:0")
        .says("/c/file 644 33:44 2")
        .says("/c/dir/pipe 644 0:0 1")
        .says("kept")
        .says("/nowhere");
    from.assert_swept();
    to.assert_swept();
}

#[test]
fn cache_mounts_can_be_exported_and_imported() {
    requires!(userns, overlay);
    let from = TestEnv::with_busybox();
    filled(&from);
    carried(&from, &TestEnv::with_busybox());
}

#[test]
fn cache_mount_export_keeps_owners_for_plain_user() {
    requires!(root, kiln_test, userns, overlay);
    let (from, to) = (TestEnv::of_plain_user(), TestEnv::with_busybox());
    from.import("busybox");
    filled(&from);
    carried(&from, &to);
    let back = TestEnv::of_plain_user();
    back.import("busybox");
    carried(&to, &back);
}

#[test]
fn cache_import_replaces_and_export_is_reproducible() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let write = |text: &str| {
        let run = format!("RUN --mount=type=cache,target=/c,id=a echo {text} > /c/{text} && touch -d @7 /c /c/{text}");
        env.build(&[], &dockerfile(&env, &run)).ok();
    };
    write("one");
    env.kiln(&["cache", "mounts", "export", "-o", "1.tar", "a"]).ok();
    let again = env.kiln(&["cache", "mounts", "export", "--output", "2.tar"]).ok();
    assert_eq!(again.stdout, "");
    assert_eq!(fs::read(env.dir().join("1.tar")).expect("1"), fs::read(env.dir().join("2.tar")).expect("2"));
    write("two");
    assert!(data(&env, "a").join("two").exists());
    env.kiln(&["cache", "mounts", "import", "1.tar"]).ok();
    let names: Vec<_> = fs::read_dir(data(&env, "a")).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names, ["one"]);
}

#[test]
fn cache_mount_ids_are_never_paths() {
    // S-21
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    for id in ["../../../etc", "/etc", ".", "ü b/c"] {
        let run = format!("RUN --mount=type=cache,target=/c,\"id={id}\" echo x > /c/x");
        env.build(&[], &dockerfile(&env, &run)).ok();
        assert!(data(&env, id).join("x").exists(), "{id}");
    }
    let ids: Vec<String> =
        mounts(&env).as_array().expect("list").iter().map(|m| m["id"].as_str().expect("id").to_owned()).collect();
    assert_eq!(ids, [".", "../../../etc", "/etc", "ü b/c"]);
    env.kiln(&["cache", "mounts", "rm", "../../../etc", "."]).ok().says("removed ../../../etc");
    assert_eq!(mounts(&env).as_array().expect("list").len(), 2);
    env.kiln(&["cache", "mounts", "rm", "nothing"]).fails(1).says("no cache mount with the id \"nothing\"");
    env.kiln(&["cache", "mounts", "rm"]).fails(2);
    env.kiln(&["cache", "mounts", "rm", "--all"]).ok();
    assert!(mounts(&env).as_array().expect("list").is_empty());
    // A removed cache is created again.
    let run = "RUN --mount=type=cache,target=/c,id=. test ! -e /c/x && echo y > /c/y";
    env.build(&[], &dockerfile(&env, run)).ok();
    env.assert_swept();
}

#[test]
fn invalid_cache_mount_archive_changes_nothing() {
    // S-30
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    env.build(&[], &dockerfile(&env, "RUN --mount=type=cache,target=/c,id=a echo x > /c/x")).ok();
    let name = &sha256(b"a")[..32];
    let dir = env.context(&format!(
        "-- good/{name}/id --\na\n-- named/zzz/id --\na\n-- named/zzz/data/ --\n-- nothing/{name}/data/ --\n\
         -- link/{name}/id --\na\n-- link/{name}/data -> /etc --\n-- file --\nx\n-- climb/a --\n"
    ));
    // The notation ends every file with a newline, but an id has none.
    for at in ["good", "link"] {
        fs::write(dir.join(at).join(name).join("id"), "a").expect("write");
    }
    fs::write(dir.join("named/zzz/id"), "a").expect("write");
    let tar = |from: &str, more: &[&str]| {
        let out = env.dir().join("bad.tar");
        let mut tar = std::process::Command::new("tar");
        tar.arg("-cf").arg(&out).args(more).arg("-C").arg(dir.join(from)).arg(".");
        assert!(tar.status().expect("run tar").success());
    };
    let refused = |why: &str| {
        env.kiln(&["cache", "mounts", "import", "bad.tar"]).fails(1).says(why);
        assert_eq!(fs::read(data(&env, "a").join("x")).expect("still there"), b"x\n");
        env.assert_swept();
    };
    tar("good", &[]);
    refused("has no data");
    tar("named", &[]);
    refused("zzz does not match the id in it");
    tar("nothing", &[]);
    refused("has no id");
    tar("link", &[]);
    refused("has no data");
    tar("climb", &["-P", "--transform", "s,a$,../../a,"]);
    refused("leaves the root");
    fs::write(env.dir().join("bad.tar"), "no archive").expect("write");
    refused("bad.tar: archive entry 1: not a tar archive");
    refused("kiln cache mounts export -o FILE");
    env.kiln(&["cache", "mounts", "import", "missing.tar"]).fails(1).says("missing.tar");
}

#[test]
fn processes_take_turns_on_locked_cache_mount() {
    // M-7
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    // A command that finds the mark of another one has not waited.
    let run = |n: u32| {
        format!(
            "RUN --mount=type=cache,target=/c,id=l,sharing=locked mkdir /c/mark && sleep 0.3 && rmdir /c/mark && \
             echo {n} >> /c/turns"
        )
    };
    let contexts: Vec<_> = (0..4).map(|n| dockerfile(&env, &run(n))).collect();
    let children: Vec<_> = contexts.iter().map(|c| env.build(&[], c).spawn()).collect();
    for child in children {
        let out = child.wait_with_output().expect("wait");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(fs::read_to_string(data(&env, "l").join("turns")).expect("turns").lines().count(), 4);
    assert_eq!(mounts(&env).as_array().expect("list").len(), 1);
}

#[test]
fn private_cache_mount_is_exclusive_while_in_use() {
    // M-7
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let wait = "n=0; while [ $(ls /s | wc -l) -lt 2 ] && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done";
    let run = |n: u32| {
        format!(
            "RUN --mount=type=cache,target=/s,id=meet --mount=type=cache,target=/p,id=own,sharing=private \
             touch /s/{n}; {wait}; test $(ls /s | wc -l) = 2 && test -z \"$(ls /p)\" && touch /p/{n}"
        )
    };
    let contexts: Vec<_> = (0..2).map(|n| dockerfile(&env, &run(n))).collect();
    let children: Vec<_> = contexts.iter().map(|c| env.build(&[], c).spawn()).collect();
    for child in children {
        let out = child.wait_with_output().expect("wait");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let listed = mounts(&env);
    let own: Vec<_> = listed.as_array().expect("list").iter().filter(|m| m["id"] == "own").collect();
    assert_eq!(own.len(), 2, "{listed:#}");
    // No build uses them now: the next one gets the first instance again.
    env.build(&[], &dockerfile(&env, "RUN --mount=type=cache,target=/p,id=own,sharing=private touch /p/third")).ok();
    assert!(data(&env, "own").join("third").exists());
    env.kiln(&["cache", "mounts", "export", "-o", "x.tar", "own"]).ok().says("another private instance");
}

#[test]
fn cache_mount_in_use_is_not_removed() {
    // M-7, S-132
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let run = "RUN --mount=type=cache,target=/c,id=busy,sharing=locked touch /c/started; sleep 3600";
    let mut child = env.build(&[], &dockerfile(&env, run)).spawn();
    appears(&data(&env, "busy").join("started"));
    assert_eq!(mounts(&env)[0]["busy"], true);
    env.kiln(&["cache", "mounts", "rm", "busy"]).fails(1).says("in use by a running build");
    child.kill().expect("kill");
    child.wait().expect("wait");
    // Long enough for a slow machine, but shorter than the sleep.
    let next = dockerfile(&env, "RUN --mount=type=cache,target=/c,id=busy,sharing=locked ls /c");
    env.build(&["--timeout", "5m"], &next).ok();
    env.kiln(&["cache", "mounts", "rm", "busy"]).ok();
    env.assert_swept();
}
