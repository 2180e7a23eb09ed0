//! Test `RUN --mount=type=cache`: persistence, ids, sources, owners and sharing.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use serde_json::Value;

use super::{built, context, last_layer, refused};
use crate::support::TestEnv;
use crate::support::env::each_user;
use crate::support::image::sha256;

/// The directory with the files of instance 0.
fn data(env: &TestEnv, id: &str) -> PathBuf {
    env.store().join("mounts").join(&sha256(id.as_bytes())[..32]).join("0/data")
}

fn ids(env: &TestEnv) -> Vec<String> {
    let listed: Value = serde_json::from_str(&env.kiln(&["cache", "mounts", "ls", "--format", "json"]).ok()).unwrap();
    listed.as_array().expect("a list").iter().map(|m| m["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn cache_mount_persists_outside_layer_and_key() {
    // M-10
    requires!(userns, overlay);
    for env in each_user() {
        let lines = "RUN --mount=type=cache,target=/c echo x >> /c/file && cat /c/file | wc -l > /count";
        let dir = context(&env, lines, "");
        env.build(&["-t", "app"], &dir).ok();
        assert_eq!((last_layer(&env), env.image("app").content("count")), (vec!["count".to_owned()], b"1\n".to_vec()));
        // Another build changes the content: the step stays cached.
        built(&env, &[], "RUN --mount=type=cache,target=/c echo y >> /c/file");
        env.build(&["-t", "app"], &dir).ok().says("CACHED [2/2]");
        assert_eq!(env.image("app").content("count"), b"1\n");
        // A build with --no-cache keeps the cache mount.
        env.build(&["-t", "app", "--no-cache"], &dir).ok();
        assert_eq!(env.image("app").content("count"), b"3\n");
        built(&env, &[], "RUN --mount=type=cache,target=/c,ro cat /c/file && ! touch /c/new");
        built(&env, &[], "RUN --mount=type=cache,target=/c,readonly ! touch /c/new");
        built(&env, &[], "RUN --mount=type=cache,target=/c,rw touch /c/new");
        assert!(data(&env, "/c").join("new").exists());
        env.assert_swept();
    }
}

#[test]
fn cache_mount_id_defaults_to_target() {
    // M-6
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &["--build-arg", "ARCH=arm"],
            "ARG ARCH\nWORKDIR /w\n\
             RUN --mount=type=cache,target=/c//x/../y/ touch /c/y/f\n\
             RUN --mount=type=cache,id=/c/y,target=/elsewhere test -e /elsewhere/f\n\
             RUN --mount=type=cache,target=/c test -z \"$(ls -A /c)\"\n\
             RUN --mount=type=cache,target=rel touch rel/f\n\
             RUN --mount=type=cache,id=apt-$ARCH,target=/apt touch /apt/f",
        );
        assert_eq!(ids(&env), ["/c", "/c/y", "/w/rel", "apt-arm"]);
        let lines = "RUN --mount=type=cache,target=/c/y test -z \"$(ls -A /c/y)\" && touch /c/y/mine";
        built(&env, &["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=team"], lines);
        assert!(data(&env, "team//c/y").join("mine").exists());
        // An id is never used as a path (S-21), and may have any length.
        let long = "x".repeat(4000);
        built(&env, &[], &format!("RUN --mount=type=cache,id={long},target=/c touch /c/long"));
        assert!(data(&env, &long).join("long").exists());
    }
}

#[test]
fn new_cache_mount_is_filled_from_its_source_once() {
    // M-8
    requires!(userns, overlay);
    for env in each_user() {
        let stage = "
FROM busybox AS seed
RUN mkdir -p /data/sub && echo one > /data/sub/file && chown 5:6 /data/sub/file && ln -s file /data/sub/link
FROM busybox";
        let run = |mount: &str, script: &str| {
            let text = format!("-- Dockerfile --{stage}\nRUN --mount=type=cache,{mount} {script}\n");
            env.build(&["-t", "app"], &env.context(&text)).ok()
        };
        run(
            "id=s,target=/c,from=seed,source=/data",
            "test \"$(stat -c %u:%g /c/sub/file)\" = 5:6 && test \"$(readlink /c/sub/link)\" = file && \
             echo two > /c/sub/file && test ! -e /c/bin",
        );
        run("id=s,target=/c,from=seed,source=/data", "test \"$(cat /c/sub/file)\" = two && rm -r /c/sub && touch /c/x");
        run("id=s,target=/c,from=seed,source=/data", "test \"$(ls /c)\" = x");
        // From a context, and two mounts at once.
        let lines = "RUN --mount=type=cache,from=one,target=/a --mount=type=cache,from=one,target=/b cat /a/f /b/f";
        let one = format!("one={}", env.context("-- f --\nof a context\n").display());
        built(&env, &["--build-context", &one], lines).says("of a context");
        // A directory of an existing cache.
        built(&env, &[], "RUN --mount=type=cache,id=p,target=/c mkdir -p /c/a/b && echo deep > /c/a/b/f");
        built(
            &env,
            &[],
            "RUN --mount=type=cache,id=p,target=/c,source=a/b test \"$(cat /c/f)\" = deep && test ! -e /c/a",
        );
        refused(&env, 1, "RUN --mount=type=cache,id=p,target=/c,source=nothing true")
            .says("nothing")
            .says("a cache starts empty");
    }
}

#[test]
fn cache_mount_source_through_symlink_fails() {
    // M-8, S-2
    requires!(userns, overlay);
    for env in each_user() {
        let host = env.dir().join("host");
        fs::create_dir(&host).expect("create");
        fs::write(host.join("canary"), "of the host").expect("write");
        let out = host.display();
        built(
            &env,
            &[],
            &format!(
                "RUN --mount=type=cache,id=p,target=/c ln -s {out} /c/abs && ln -s ../../../../../../../../..{out} /c/up && \
                 ln -s / /c/root && mkdir /c/real && ln -s real /c/near && ln -s /proc/self/root /c/magic"
            ),
        );
        for source in ["abs", "up", "root", "near", "magic", "abs/canary", "root/etc"] {
            let line = format!("RUN --mount=type=cache,id=p,source={source},target=/c cat /c /c/canary; true");
            refused(&env, 1, &line).says("symbolic link").says("Dockerfile:2").never_says("of the host");
        }
        refused(&env, 1, "RUN --mount=type=cache,id=p,source=../../../../etc,target=/c true");
        built(&env, &[], "RUN --mount=type=cache,id=p,source=real,target=/c true");
    }
}

#[test]
fn cache_mount_mode_and_owner_apply_at_creation() {
    // M-9
    requires!(userns, overlay);
    for env in each_user() {
        let stat = |mount: &str, want: &str| {
            built(
                &env,
                &[],
                &format!("RUN --mount=type=cache,target=/c,{mount} test \"$(stat -c '%a %u %g' /c)\" = '{want}'"),
            );
        };
        stat("id=plain", "755 0 0");
        stat("id=own,mode=0700,uid=1000,gid=1500", "700 1000 1500");
        // Another owner makes another cache (N-21).
        stat("id=own,mode=0755,uid=7,gid=7", "755 7 7");
        stat("id=sticky,mode=1777", "1777 0 0");
        let own = "RUN --mount=type=cache,target=/c,id=own,mode=0700,uid=1000,gid=1500";
        built(&env, &[], &format!("USER app\n{own} touch /c/mine"));
        built(&env, &[], &format!("USER nobody\n{own} ! ls /c"));
        built(&env, &[], &format!("{own} chmod 711 /c"));
        stat("id=own,mode=0700,uid=1000,gid=1500", "711 1000 1500");
    }
}

#[test]
fn waiting_for_locked_cache_mount_is_reported() {
    // M-7
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let lines = "RUN --mount=type=cache,id=one,target=/c,sharing=locked true";
    let dir = context(&env, lines, "");
    env.build(&[], &dir).ok().never_says("waiting");
    let held = fs::File::open(data(&env, "one").with_file_name("lock")).expect("the lock");
    held.lock().expect("lock");
    let mut waiting = env.build(&["--no-cache", "--timeout", "60s"], &dir).spawn();
    let said = BufReader::new(waiting.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let note = said.into_iter().find(|line| line.contains("waiting for the cache mount one"));
    // Release the lock only now: a build that does not report the wait ends at --timeout.
    drop(held);
    assert!(waiting.wait().expect("wait").success() && note.is_some());
}

#[test]
fn commands_share_cache_mount_concurrently() {
    // M-7
    requires!(userns, overlay);
    for env in each_user() {
        // Each waits for the file of the other, so that a lock would block both.
        let stage = |name: &str, other: &str, sharing: &str| {
            format!(
                "FROM busybox AS {name}\nRUN --mount=type=cache,id=meet,target=/c{sharing} touch /c/{name}; \
                 n=0; while [ ! -e /c/{other} ]; do sleep 0.05; n=$((n+1)); [ $n -lt 400 ] || exit 1; done; touch /{name}\n"
            )
        };
        let stages = stage("one", "two", "") + &stage("two", "one", ",sharing=shared");
        let text = format!("-- Dockerfile --\n{stages}FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n");
        env.build(&["--jobs", "4"], &env.context(&text)).ok();
        assert_eq!(ids(&env), ["meet"]);
    }
}

#[test]
fn cache_mounts_differ_by_owner_mode_and_source() {
    // N-21
    requires!(userns, overlay);
    for env in each_user() {
        let made = ["", ",uid=7", ",gid=7", ",mode=0700", ",uid=7,gid=7,mode=0700", ",from=seed", ",from=seed,uid=7"];
        let run = |options: &str, command: &str| format!("RUN --mount=type=cache,id=c,target=/c{options} {command}\n");
        let mut lines: String =
            made.iter().enumerate().map(|(at, made)| run(made, &format!("echo {at} > /c/which"))).collect();
        lines = format!("COPY Dockerfile /f\nFROM busybox AS seed\nRUN echo seed > /first\nFROM busybox\n{lines}");
        for (at, made) in made.iter().enumerate() {
            let seeded = if made.contains("from") { "test -e /c/first" } else { "test ! -e /c/first" };
            lines += &run(made, &format!("test \"$(cat /c/which)\" = {at} && {seeded}"));
        }
        // Explicit defaults equal no options; a directory of a cache has the owner of the cache.
        lines += &run(",uid=0,gid=0,mode=755", "test \"$(cat /c/which)\" = 0 && mkdir /c/part");
        lines += &run(",source=part,uid=9", "touch /c/in-part");
        lines += &run("", "test -e /c/part/in-part");
        built(&env, &[], &lines);
        let all = ids(&env);
        assert_eq!(all.len(), made.len(), "{all:?}");
        assert!(all.contains(&"c".to_owned()) && all.contains(&"c (uid=7, gid=0, mode=0755)".to_owned()), "{all:?}");
        env.kiln(&["cache", "mounts", "rm", "c (uid=7, gid=0, mode=0755)"]).ok();
        assert_eq!(ids(&env).len(), made.len() - 1);
    }
}
