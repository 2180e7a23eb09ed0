//! The lower rungs of the ladder: one id only, no user namespace at all; and what ends a build from outside.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::TestEnv;
use crate::support::env::binary;

/// A build as a user who may make no user namespace: uid 1000 of one whose limit is 0.
fn without_namespaces(env: &TestEnv, context: &std::path::Path) -> (bool, String) {
    let script = "mkdir $1/bare && chown 1000:1000 $1/bare && echo 0 > /proc/sys/user/max_user_namespaces &&
        exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all sh -c '
            cd $1/bare && export HOME=$PWD KILN_ROOT=$PWD/store && cat ../base.tar | $2 import - base && $2 build $3' \
            sh $1 $2 $3";
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "sh", "-c", script, "sh"])
        .args([env.dir().as_os_str(), binary().as_os_str(), context.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .expect("run unshare");
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn without_user_namespaces_everything_but_commands_still_builds() {
    requires!(plain_user, userns);
    let env = TestEnv::new();
    fs::copy(crate::support::env::fixture("busybox").join("rootfs.tar"), env.dir().join("base.tar")).unwrap();
    let context = env.context(
        "
-- Dockerfile --
FROM base AS first
COPY --chown=5:6 file /etc/file
FROM base
COPY --from=first /etc /copied
ADD a.tar /unpacked/
WORKDIR /made/here
ENV a=b
CMD [\"true\"]
-- file --
content
",
    );
    let tar = Command::new("tar").args(["-cf", "a.tar", "file"]).current_dir(&context).status();
    assert!(tar.unwrap().success());
    let (done, said) = without_namespaces(&env, &context);
    assert!(done, "{said}");
    fs::remove_dir_all(env.dir().join("bare")).ok();
}

#[test]
fn without_user_namespaces_a_command_says_what_stands_in_the_way() {
    requires!(plain_user, userns);
    let env = TestEnv::new();
    fs::copy(crate::support::env::fixture("busybox").join("rootfs.tar"), env.dir().join("base.tar")).unwrap();
    let context = env.context("\n-- Dockerfile --\nFROM base\nRUN true\n");
    let (done, said) = without_namespaces(&env, &context);
    assert!(!done, "{said}");
    for part in ["Dockerfile:2", "RUN true", "sysctl -w user.max_user_namespaces=", "COPY, ADD"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn the_doctor_names_what_forbids_user_namespaces() {
    requires!(plain_user, userns);
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --reuid 1000 --regid 1000 --clear-groups \
        --inh-caps=-all env HOME=/nonexistent KILN_ROOT=/nonexistent $1 doctor";
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "sh", "-c", script, "sh"])
        .arg(binary())
        .output()
        .expect("run unshare");
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(3), "{said}");
    for part in ["used     files and metadata only", "sysctl -w user.max_user_namespaces=", "RUN does not work here."] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn a_build_that_is_told_to_stop_leaves_no_process_and_no_mount_within_a_second() {
    // R-11, S-82; as whoever runs the tests, and through both processes of a plain user's build.
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let marker = format!("4{}", std::process::id());
    let context = env.context(&format!(
        "\n-- Dockerfile --\nFROM busybox\nRUN trap '' TERM INT HUP; setsid sleep {marker} & sleep {marker}\n"
    ));
    let running = || {
        let out = Command::new("pgrep").args(["-c", "-f", &format!("^sleep {marker}$")]).output().expect("pgrep");
        String::from_utf8_lossy(&out.stdout).trim().parse::<u32>().unwrap()
    };
    for (signal, code) in [("TERM", Some(130)), ("INT", Some(130)), ("HUP", Some(130)), ("KILL", None)] {
        let mut build = Command::new(binary())
            .args(["build", context.to_str().unwrap()])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", env.dir())
            .env("KILN_ROOT", env.store())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while running() != 2 {
            assert!(began.elapsed() < Duration::from_secs(20), "the command did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let began = Instant::now();
        let told = Command::new("kill").args([&format!("-{signal}"), &build.id().to_string()]).status();
        assert!(told.unwrap().success());
        assert_eq!(build.wait().unwrap().code(), code, "{signal}");
        while running() != 0 {
            assert!(began.elapsed() < Duration::from_secs(1), "{signal}: it still runs after a second");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*env.dir().to_string_lossy()), "{mounts}");
    }
    // What the killed one left is swept by the next start.
    let next = env.context("\n-- Dockerfile --\nFROM busybox\nRUN true\n");
    env.build(&[], &next).ok();
    let left = fs::read_dir(env.store().join("scratch")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "scratch of a killed build is still there");
}
