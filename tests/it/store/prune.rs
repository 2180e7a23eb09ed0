//! Test `kiln prune`, `kiln cache prune` and `kiln cache ls`: what is removed, what is kept, and running builds.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::env::each_user;
use crate::support::requires::is_root;
use crate::support::{TestEnv, processes};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn context(env: &TestEnv, what: &str) -> std::path::PathBuf {
    env.context(&format!("-- Dockerfile --\nFROM busybox\nRUN echo {what} > /file\nCOPY x /x\n-- x --\n{what}\n"))
}

fn blobs(env: &TestEnv) -> usize {
    fs::read_dir(env.store().join("blobs/sha256")).expect("blobs").count()
}

#[test]
fn prune_keeps_tagged_images_and_their_cache() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (old, new) = (context(&env, "old"), context(&env, "new"));
    env.build(&["-t", "app"], &old).ok();
    let unnamed = env.image("app").digest;
    env.build(&["-t", "app"], &new).ok();
    let before = blobs(&env);
    let only = |what: &str| env.kiln(&["images", "-a", "--quiet", "--no-trunc", "-f", what]).ok().trim().to_owned();
    assert_eq!(only("dangling=true"), unnamed);
    assert!(!only("dangling=false").contains(&unnamed));
    env.kiln(&["images", "--filter", "dangling=x"]).fails(2).says("want dangling=true or dangling=false");
    // A dry run changes nothing.
    env.kiln(&["prune", "--dry-run"]).ok().says("would remove 1 image, 3 cached steps");
    assert_eq!(blobs(&env), before);
    env.kiln(&["inspect", &unnamed]).ok();
    // `cache prune` keeps images, also untagged ones.
    env.kiln(&["cache", "prune"]).ok();
    env.kiln(&["inspect", &unnamed]).ok();
    let told = json(&env.kiln(&["prune", "--format", "json"]).ok());
    assert_eq!(told["removed"]["images"], 1, "{told:#}");
    env.kiln(&["inspect", &unnamed]).fails(1);
    assert_eq!(blobs(&env), before - 4, "manifest, config and two layers");
    // The tagged image and its cache are kept.
    env.image("app").tree();
    env.build(&["-t", "app"], &new).ok().never_says("why:");
    env.build(&["-t", "was"], &old).ok().says("why:");
    env.kiln(&["prune"]).ok().says("removed nothing");
    env.assert_swept();
}

#[test]
fn prune_all_keeps_images_usable_as_base() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context =
        env.context("-- Dockerfile --\nFROM busybox\nRUN --mount=type=cache,target=/c echo a > /c/a && echo b > /b\n");
    env.build(&["-t", "app"], &context).ok();
    let digest = env.image("app").digest;
    env.kiln(&["prune", "--all", "--force"]).ok();
    let listed = json(&env.kiln(&["cache", "ls", "--format", "json"]).ok());
    assert_eq!(listed, serde_json::json!([]));
    assert_eq!(env.image("app").digest, digest);
    let on = env.context("-- Dockerfile --\nFROM app\nRUN cat /b > /c\n");
    env.build(&["-t", "on"], &on).ok();
    env.build(&["-t", "app"], &context).ok().says("not built before");
    env.image("app").tree();
}

#[test]
fn prune_keep_storage_removes_least_recently_used() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let fill = |name: &str| {
        env.context(&format!("-- Dockerfile --\nFROM busybox\nRUN head -c 3000000 /dev/urandom > /{name}\n"))
    };
    let contexts = ["one", "two", "three"].map(fill);
    for context in &contexts {
        env.build(&[], context).ok();
        std::thread::sleep(Duration::from_millis(20));
    }
    // A cache hit counts as use.
    env.build(&[], &contexts[0]).ok();
    env.kiln(&["rmi", "--force", "none"]).ok();
    let total = |env: &TestEnv| -> u64 {
        let rows = json(&env.kiln(&["cache", "ls", "--format", "json"]).ok());
        let number = |v: &Value| v.as_u64().expect("a number");
        rows.as_array().expect("rows").iter().map(|r| number(&r["size"]) + number(&r["unpacked"])).sum()
    };
    assert!(total(&env) > 17_000_000);
    env.kiln(&["prune", "--keep-storage", "9m"]).ok();
    let left = json(&env.kiln(&["prune", "--dry-run", "--keep-storage", "9m", "--format", "json"]).ok());
    assert!(left["left"].as_u64().expect("bytes") <= 9 << 20, "{left:#}");
    assert_eq!(left["freed"], 0, "{left:#}");
    env.build(&[], &contexts[0]).ok().never_says("why:");
    env.build(&[], &contexts[1]).ok().says("why:");
    env.kiln(&["prune", "--keep-storage", "lots"]).fails(2).says("--keep-storage").says("not a size");
    env.kiln(&["prune", "--keep-storage", "1k"]).ok().says("tagged images take");
    env.image("busybox").tree();
}

#[test]
fn prune_keeps_what_running_build_uses() {
    // N-63, S-131
    requires!(userns, overlay);
    for env in each_user() {
        // The running build uses the first cached step; nothing needs the others.
        let first = "FROM busybox\nRUN echo 1 > /1\n";
        let before = env.context(&format!("-- Dockerfile --\n{first}RUN echo stray > /stray\n"));
        let stray = env.build(&["-q"], &before).ok().trim().to_owned();
        let context = env.context(&format!(
            "-- Dockerfile --\n{first}RUN --mount=type=cache,target=/c touch /c/on && until [ -e /c/go ]; do sleep 0.05; \
             done\nRUN cat /1 && echo 3 > /3\n"
        ));
        let child = env.build(&["-t", "app"], &context).spawn();
        let mounts = env.store().join("mounts");
        let data = || Some(fs::read_dir(&mounts).ok()?.next()?.ok()?.path().join("0/data"));
        let started = Instant::now();
        while !data().is_some_and(|data| data.join("on").exists()) {
            assert!(started.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
        env.kiln(&["prune", "--all"])
            .ok()
            .says("running builds and containers keep what they use")
            .never_says("waiting");
        env.kiln(&["inspect", &stray]).fails(1);
        env.kiln(&["rmi", "busybox"]).ok();
        env.kiln(&["prune", "--all"]).ok();
        fs::write(data().expect("a busy mount stays").join("go"), "").expect("let it go on");
        let out = child.wait_with_output().expect("wait");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        env.image("app").tree();
        // The build has ended and uses nothing any more.
        env.kiln(&["prune", "--all"]).ok().never_says("stays");
        assert_eq!(fs::read_dir(env.store().join("layers")).map_or(0, Iterator::count), 0);
        env.assert_swept();
    }
}

#[test]
fn concurrent_builds_and_prunes_keep_tagged_images_whole() {
    // S-131
    requires!(userns, overlay, umoci);
    let env = TestEnv::with_busybox();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let env = &env;
            scope.spawn(move || {
                for round in 0..3 {
                    let context = context(env, &format!("{}", (n + round) % 4));
                    env.build(&["-t", &format!("app:{n}"), "-t", &format!("gone:{n}")], &context).ok();
                }
            });
        }
        for all in [&["prune"][..], &["prune", "--all"]] {
            let env = &env;
            scope.spawn(move || {
                for n in 0..5 {
                    env.kiln(all).ok();
                    env.kiln(&["rmi", "--force", &format!("gone:{n}")]).ok();
                }
            });
        }
    });
    for n in 0..6 {
        env.image(&format!("app:{n}")).umoci_tree();
    }
    env.assert_swept();
}

#[test]
fn prune_removes_what_killed_build_used() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context =
        env.context("-- Dockerfile --\nFROM busybox\nRUN echo 1 > /1\nRUN --mount=type=cache,target=/c sleep 1000\n");
    let mut child = env.build(&[], &context).spawn();
    let started = Instant::now();
    let records = || {
        let files = walkdir::WalkDir::new(env.store().join("cache/v1")).min_depth(2).into_iter().flatten();
        files.filter(|file| !file.file_name().as_encoded_bytes().starts_with(b".")).count()
    };
    let mounts = || fs::read_dir(env.store().join("mounts")).map_or(0, Iterator::count);
    // The second command already runs while the layer of the first is compressed and recorded.
    while mounts() == 0 || records() == 0 {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    let all = processes::with(context.to_str().expect("UTF-8"));
    child.kill().expect("kill");
    child.wait().expect("wait");
    // Kiln in a user namespace ends shortly after kiln outside.
    processes::until_ended(&all);
    env.kiln(&["prune", "--all"]).ok().says("cached step").never_says("stays");
    assert_eq!(fs::read_dir(env.store().join("layers")).map_or(0, Iterator::count), 0);
    assert_eq!(fs::read_dir(env.store().join("claims")).map_or(0, Iterator::count), 0);
}

#[test]
fn prune_by_plain_user_removes_files_of_subordinate_ids() {
    requires!(root, kiln_test, userns, overlay);
    let env = TestEnv::of_plain_user();
    env.import("busybox");
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nRUN --mount=type=cache,target=/c mkdir -m 0700 /d /c/d && \
         echo x > /d/x && chown -R 7:7 /d /c/d\n",
    );
    env.build(&["-t", "app"], &context).ok();
    env.kiln(&["cache", "ls"]).ok().says("app:latest");
    env.kiln(&["prune", "--all"]).ok();
    let empty = |dir: &str| fs::read_dir(env.store().join(dir)).map_or(0, Iterator::count);
    assert_eq!((empty("layers"), empty("mounts"), empty("scratch")), (0, 0, 0));
    env.image("app").tree();
}

#[test]
fn prune_removes_invalid_record() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = context(&env, "x");
    env.build(&["-t", "app"], &context).ok();
    let records = env.store().join("cache/v1");
    let first = fs::read_dir(&records).expect("records").next().expect("one").expect("entry").path();
    let record = fs::read_dir(first).expect("records").next().expect("one").expect("entry").path();
    fs::write(&record, "{").expect("break it");
    env.kiln(&["prune"]).ok();
    assert!(!record.exists());
    env.build(&["-t", "app"], &context).ok();
}

/// Makes everything in the store look as if it was last used a day ago.
fn age(env: &TestEnv) {
    let day_ago = ["-exec", "touch", "-h", "-d", "1 day ago", "{}", "+"];
    // A plain user's unpacked layers belong to subordinate ids.
    let namespace: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user", "--map-auto"] };
    let mut find = std::process::Command::new("unshare");
    let found = find.args(namespace).arg("find").arg(env.store()).args(day_ago).status();
    assert!(found.expect("run find").success());
}

#[test]
fn prune_until_keeps_what_was_used_since() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (old, new) = (context(&env, "old"), context(&env, "new"));
    let built = |context: &std::path::Path| env.build(&["-q"], context).ok().trim().to_owned();
    let old_id = built(&old);
    age(&env);
    let new_id = built(&new);
    for (filter, says) in [
        ("until=", "want for example 24h"),
        ("until=soon", "want for example 24h"),
        ("label=x", "prune has no filter label"),
        ("until", "want until=TIME"),
    ] {
        env.kiln(&["prune", "--filter", filter]).fails(2).says(filter).says(says);
    }
    env.kiln(&["cache", "prune", "--filter", "until=48h"]).ok().says("removed nothing");
    env.kiln(&["prune", "--filter", "until=1h", "--dry-run"]).ok().says("would remove 1 image");
    env.kiln(&["prune", "--filter", "until=1h"]).ok().says("removed 1 image");
    env.kiln(&["inspect", &old_id]).fails(1);
    env.kiln(&["inspect", &new_id]).ok();
    env.build(&[], &new).ok().never_says("why:");
    // Both bounds hold: what was used since stays, however large it is.
    env.kiln(&["prune", "--all", "--keep-storage", "0", "--filter", "until=1h"]).ok();
    env.kiln(&["inspect", &new_id]).ok();
    env.kiln(&["prune", "--filter", "until=2100-01-01T00:00:00Z"]).ok();
    env.kiln(&["inspect", &new_id]).fails(1);
}

#[test]
fn prune_gets_its_turn_while_builds_start() {
    // N-63
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let contexts: Vec<_> = (0..3).map(|n| context(&env, &format!("{n}"))).collect();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let started: Vec<_> = contexts
            .iter()
            .map(|context| {
                let (env, over) = (&env, &over);
                scope.spawn(move || {
                    let mut count = 0;
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        env.build(&["--no-cache"], context).ok();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(300));
            let began = Instant::now();
            env.kiln(&["prune", "--all"]).ok();
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in started {
            assert!(thread.join().expect("builds") > 0);
        }
    });
    env.kiln(&["fsck"]).ok();
}

#[test]
fn storage_limit_removes_least_recently_used_data() {
    requires!(userns, overlay);
    let total = |env: &TestEnv| -> u64 {
        let rows = json(&env.kiln(&["du", "--format", "json"]).ok());
        let rows = rows.as_array().expect("rows").clone();
        rows.iter().map(|row| row["size"].as_u64().unwrap_or(0) + row["unpacked"].as_u64().unwrap_or(0)).sum()
    };
    for env in each_user() {
        let large = |n: usize| {
            env.context(&format!(
                "-- Dockerfile --\nFROM busybox\nRUN head -c 3000000 /dev/urandom > /large && echo {n}\n"
            ))
        };
        let contexts: Vec<_> = (0..4).map(large).collect();
        let limited = |tag: &str, n: usize| env.build(&["-t", tag], &contexts[n]).env("KILN_STORAGE_LIMIT", "16m");
        limited("kept", 0).ok().never_says("KILN_STORAGE_LIMIT");
        for n in [1, 2, 3] {
            // Times are compared with the beginning of the build.
            std::thread::sleep(Duration::from_millis(2100));
            let said = limited("moved", n).ok();
            if n == 3 {
                said.says("of least recently used data: the store takes").never_says("warning:");
            }
        }
        assert!(total(&env) < 17 << 20, "{}", total(&env));
        for name in ["kept", "moved"] {
            env.image(name).tree();
        }
        env.build(&[], &contexts[3]).ok().never_says("why:");
        // Nothing that tagged images need is removed: one warning says that they take too much.
        let small = env.build(&["-t", "more"], &context(&env, "more")).env("KILN_STORAGE_LIMIT", "1m").ok();
        small.says("warning: the store takes ").says("tagged images take ");
        assert_eq!(small.stderr.matches("KILN_STORAGE_LIMIT): tagged").count(), 1, "{}", small.stderr);
        for name in ["kept", "moved", "more"] {
            env.image(name).tree();
        }
        env.build(&[], &contexts[0]).env("KILN_STORAGE_LIMIT", "much").fails(2).says("KILN_STORAGE_LIMIT: \"much\"");
        env.kiln(&["fsck"]).ok();
    }
}
