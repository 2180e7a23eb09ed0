//! Test the standard streams of commands: they can be opened by path, and are never files of the caller (N-50).

use std::fs::{self, File};
use std::process::Stdio;

use crate::support::TestEnv;
use crate::support::env::each_user;

const USERS: [&str; 4] = ["", "app", "4321", "4321:77"];

/// Every way to open an output stream by path.
const WRITES: &str = "echo 1 > /dev/stdout; echo 2 >> /dev/stdout; echo 3 > /proc/self/fd/1; echo 4 | tee /dev/fd/1; \
                      echo 5 > /dev/stderr; echo 6 > /proc/self/fd/2; (exec 3<>/dev/stdout; echo 7 >&3)";

#[test]
fn command_opens_its_streams_by_path_as_any_user() {
    requires!(userns, overlay);
    for env in each_user() {
        let runs: String =
            USERS.iter().skip(1).map(|user| format!("USER {user}\nRUN {WRITES}; cat /dev/stdin; id -u\n")).collect();
        let context = env.context(&format!("\n-- Dockerfile --\nFROM busybox\n{runs}"));
        let built = env.build(&["--progress", "plain"], &context).ok();
        for line in 1..=7 {
            let written = built.stderr.lines().filter(|said| said.ends_with(&format!("| {line}"))).count();
            assert!(written >= USERS.len() - 1, "{line}: {}", built.stderr);
        }
        for user in USERS {
            let line = ["run", "-i", "-u", user, "busybox", "sh", "-c", &format!("{WRITES}; cat /dev/stdin")];
            let ran = env.kiln(&line).stdin(b"typed").ok();
            assert_eq!(&*ran.stdout, "1\n2\n3\n4\n4\n7\ntyped", "{user}");
            assert!(ran.stderr.contains("5\n6\n"), "{user}: {}", ran.stderr);
        }
    }
}

#[test]
fn run_to_a_file_appends_in_order_and_keeps_its_owner() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let at = env.dir().join("out");
    for user in USERS {
        fs::write(&at, "before\n").expect("write");
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&at).expect("stat"));
        let file = || Stdio::from(File::options().append(true).open(&at).expect("open"));
        let script = "echo 1; echo 2 >&2; echo 3 > /dev/stdout; echo 4 > /dev/stderr; echo 5; exit 6";
        let line = ["run", "-u", user, "busybox", "sh", "-c", script];
        let status = env.kiln(&line).stdio(Stdio::null(), file(), file()).spawn().wait().expect("wait");
        assert_eq!(status.code(), Some(6));
        let said = fs::read_to_string(&at).expect("read");
        assert!(said.starts_with("before\n") && said.ends_with("1\n2\n3\n4\n5\n"), "{user}: {said}");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&at).expect("stat")), owner);
    }
}

#[test]
fn run_cannot_write_the_file_that_it_reads() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let at = env.dir().join("in");
    fs::write(&at, "kept\n").expect("write");
    let input = Stdio::from(File::open(&at).expect("open"));
    let script = "cat; echo lost 1<> /proc/self/fd/0 >&1; chmod 777 /proc/self/fd/0; exit 0";
    let line = ["run", "-i", "busybox", "sh", "-c", script];
    env.kiln(&line).stdio(input, Stdio::null(), Stdio::null()).spawn().wait().expect("wait");
    assert_eq!(fs::read_to_string(&at).expect("read"), "kept\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&at).expect("stat").permissions());
    assert_ne!(mode & 0o777, 0o777);
}

#[test]
fn run_ends_when_its_output_is_closed() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let mut child = env.kiln(&["run", "busybox", "sh", "-c", "exec yes"]).spawn();
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("wait").code(), Some(141), "by SIGPIPE");
    // Endless input that the command does not read.
    let endless = Stdio::from(File::open("/dev/zero").expect("open"));
    let line = ["run", "-i", "busybox", "true"];
    let status = env.kiln(&line).stdio(endless, Stdio::null(), Stdio::null()).spawn().wait().expect("wait");
    assert_eq!(status.code(), Some(0));
}
