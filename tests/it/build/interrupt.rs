//! Test builds that are interrupted or killed, and concurrent builds in one store.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{TestEnv, canary};

/// Two stages that run for ever, each with children in another session. `mark` is in every command line.
fn endless(env: &TestEnv, mark: &str) -> std::path::PathBuf {
    let deaf = format!("sh -c 'trap \"\" INT TERM HUP; while :; do sleep 1; done' {mark} &");
    let stage = |name: &str| {
        format!("FROM busybox AS {name}\nCOPY files /files\nRUN setsid {deaf} {deaf} echo running {name}; wait\n")
    };
    // Files are read in parallel by threads, which must not receive the signals.
    let files: String = (0..50).map(|i| format!("-- files/{i} --\n{mark} {i}\n")).collect();
    let (left, right) = (stage("left"), stage("right"));
    env.context(&format!(
        "-- Dockerfile --\n{left}{right}FROM busybox\nCOPY --from=left /bin/sh /a\nCOPY --from=right /bin/sh /b\n{files}"
    ))
}

/// The command lines of processes that contain the text.
fn command_lines_with(mark: &str) -> Vec<String> {
    let lines = fs::read_dir("/proc").expect("list /proc").flatten().filter_map(|item| {
        item.file_name().to_string_lossy().parse::<u32>().ok()?;
        let line = fs::read(item.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(mark)).collect()
}

/// Starts the build and waits until the commands of both stages run.
fn started(env: &TestEnv, context: &Path) -> Child {
    let mut child = env.kiln(&["build", "--jobs", "2", "-t", "app", context.to_str().expect("UTF-8")]).spawn();
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    for _ in 0..2 {
        let said = lines.find(|line| line.contains("| running "));
        assert!(said.is_some(), "the build ended: {:?}", child.wait());
    }
    // Drain the rest of the output, so that the build does not block on a full pipe.
    std::thread::spawn(move || lines.count());
    child
}

fn wait_for_exit(child: &mut Child, within: Duration) -> Option<i32> {
    let since = Instant::now();
    while since.elapsed() < within {
        if let Some(status) = child.try_wait().expect("its status") {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().ok();
    None
}

#[test]
fn interrupted_build_ends_all_processes_and_leaves_nothing() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mark = canary::text();
        let context = endless(&env, &mark);
        let mut child = started(&env, &context);
        assert!(!command_lines_with(&mark).is_empty(), "the commands run");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("signal");
        // Usually milliseconds; more for a busy machine.
        assert_eq!(wait_for_exit(&mut child, Duration::from_secs(10)), Some(130), "after {signal}");
        assert_eq!(command_lines_with(&mark), [""; 0], "after {signal}");
        env.assert_swept();
    }
    let good = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
    env.build(&["-t", "app"], &good).ok();
}

#[test]
fn killed_build_ends_its_commands_and_is_swept_later() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let mark = canary::text();
    let context = endless(&env, &mark);
    let mut child = started(&env, &context);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let since = Instant::now();
    while !command_lines_with(&mark).is_empty() {
        assert!(since.elapsed() < Duration::from_secs(10), "still there: {:?}", command_lines_with(&mark));
        std::thread::sleep(Duration::from_millis(10));
    }
    let good = env.context("-- Dockerfile --\nFROM busybox\nRUN echo x > /x\n");
    env.build(&["-t", "app"], &good).ok();
    assert_eq!(env.image("app").content("x"), b"x\n");
    env.assert_swept();
}

#[test]
fn concurrent_builds_share_a_store() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let same =
        env.context("-- Dockerfile --\nFROM busybox\nRUN echo same > /same\nCOPY f /\nRUN cat /f > /g\n-- f --\nf\n");
    let contexts: Vec<_> = (0..3)
        .map(|i| env.context(&format!("-- Dockerfile --\nFROM busybox\nRUN echo {i} > /own\nCOPY f /\n-- f --\n{i}\n")))
        .collect();
    std::thread::scope(|scope| {
        for (i, own) in contexts.iter().enumerate() {
            let (env, same) = (&env, &same);
            scope.spawn(move || env.build(&["-t", &format!("same{i}")], same).ok());
            scope.spawn(move || env.build(&["-t", &format!("own{i}")], own).ok());
        }
    });
    for i in 0..3 {
        assert_eq!(env.image(&format!("own{i}")).content("own"), format!("{i}\n").as_bytes());
        let image = env.image(&format!("same{i}"));
        assert_eq!((image.content("same"), image.content("g")), (b"same\n".to_vec(), b"f\n".to_vec()));
    }
    assert!(env.build(&["-t", "again"], &same).ok().progress().ran().is_empty());
    env.assert_swept();
}
