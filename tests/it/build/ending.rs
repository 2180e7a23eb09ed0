//! Test that work on huge files can be interrupted: it ends promptly with exit code 130 and leaves nothing behind.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::TestEnv;
use crate::support::env::each_user;

/// Usually half a second; more for a busy machine. Without the interrupt, each of these takes much longer.
const SOON: Duration = Duration::from_secs(5);
const HUGE: u64 = 24 << 30;

fn header(kind: u8, name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = kind;
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(size);
    header.set_cksum();
    header
}

/// Writes an archive with one file of zeros, as a sparse file.
fn huge(path: &Path) {
    let mut file = File::create(path).expect("create");
    file.write_all(header(b'0', "f", HUGE).as_bytes()).expect("write");
    file.set_len(HUGE + 2048).expect("a file system with holes");
}

/// Waits until the scratch directory of the store has a non-empty entry whose name begins with `purpose`.
fn wait_for_scratch(env: &TestEnv, purpose: &str, child: &mut Child) {
    let since = Instant::now();
    let listed = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    loop {
        let found = listed(&env.store().join("scratch")).iter().any(|scratch| {
            let begun = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(purpose));
            listed(scratch).iter().any(|path| begun(path) && (path.is_file() || !listed(path).is_empty()))
        });
        if found {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "nothing was begun");
        assert!(child.try_wait().expect("its status").is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Interrupts `child` and checks that it ends promptly, with exit code 130, and leaves nothing behind.
#[track_caller]
fn assert_interrupted(env: &TestEnv, what: &str, mut child: Child, signal: Signal) {
    // A signal to the whole process group reaches the process inside a namespace twice.
    for _ in 0..2 {
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("signal");
    }
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("its status") {
            break status;
        }
        if since.elapsed() > SOON {
            child.kill().expect("kill");
            child.wait().expect("wait");
            panic!("{what} goes on after {signal}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert_eq!(status.code(), Some(130), "{what} after {signal}: {said}");
    assert!(said.ends_with("error: interrupted\n"), "{what}: {said}");
    env.assert_swept();
}

fn check_interrupted_reads(env: &TestEnv) {
    let context = env.context("-- Dockerfile --\nFROM scratch\n");
    let archive = context.join("huge.tar");
    huge(&archive);
    let (path, dir) = (archive.to_str().expect("UTF-8"), context.to_str().expect("UTF-8"));
    let start = |args: &[&str], stdin: Option<Stdio>| {
        let stdin = stdin.unwrap_or_else(Stdio::null);
        env.kiln(args).stdio(stdin, Stdio::piped(), Stdio::piped()).spawn()
    };
    let open = || Stdio::from(File::open(&archive).expect("open"));
    for (what, args, stdin, begins) in [
        ("import", vec!["import", path, "x"], None, ".draft"),
        ("import from a pipe that says nothing", vec!["import", "-", "x"], Some(Stdio::piped()), ".draft"),
        ("import of standard input", vec!["import", "-", "x"], Some(open()), ".draft"),
        ("load", vec!["load", "-i", path], None, "load"),
        ("a context on standard input", vec!["build", "-"], Some(open()), "context-main-files"),
    ] {
        let mut child = start(&args, stdin);
        let _open = child.stdin.take();
        wait_for_scratch(env, begins, &mut child);
        assert_interrupted(env, what, child, Signal::SIGINT);
    }
    for (what, instruction) in [("COPY", "COPY huge.tar /"), ("ADD", "ADD huge.tar /")] {
        fs::write(context.join("Dockerfile"), format!("FROM scratch\n{instruction}\n")).expect("write");
        let child = start(&["build", dir], None);
        std::thread::sleep(Duration::from_millis(400));
        assert_interrupted(env, what, child, Signal::SIGTERM);
        let late = env.kiln(&["build", "--timeout", "1s", dir]).fails(1);
        late.says("the build took longer than 1s");
        assert!(late.took < SOON, "{late}");
        env.assert_swept();
    }
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").expect("write");
    env.build(&[], &context).ok();
}

#[test]
fn huge_file_reads_stop_promptly_on_signal() {
    for env in each_user() {
        check_interrupted_reads(&env);
    }
}

#[test]
fn interrupted_unpack_stops_promptly_and_restarts() {
    requires!(userns, overlay);
    for env in each_user() {
        let mut tar = Vec::new();
        for i in 0..6_000 {
            tar.extend_from_slice(header(b'0', &format!("f{i}"), 0).as_bytes());
        }
        env.kiln(&["import", "-", "many"]).stdin(&tar).ok();
        let context = env
            .context("-- Dockerfile --\nFROM many AS many\nCOPY --from=busybox / /\nRUN [\"/bin/touch\", \"/new\"]\n");
        let mut child = env.build(&["-t", "more"], &context).spawn();
        wait_for_scratch(&env, "unpack", &mut child);
        assert_interrupted(&env, "unpacking", child, Signal::SIGINT);
        // Before its command starts, kiln itself ends by the signal.
        let mut child = env.kiln(&["run", "many", "/bin/true"]).spawn();
        wait_for_scratch(&env, "unpack", &mut child);
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("signal");
        let ended = child.wait().expect("its status");
        assert!(ended.signal() == Some(15) || ended.code() == Some(128 + 15), "{ended}");
        env.assert_swept();
        env.build(&["-t", "more"], &context).ok();
        assert_eq!(env.image("more").content("new"), b"");
        env.assert_swept();
    }
}
