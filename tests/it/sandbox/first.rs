//! Test that a command is not process 1 and ends by signals like any other process (N-52).

use std::io::Read as _;
use std::time::{Duration, Instant};

use kiln::sandbox::Exit;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{TestRoot, root_only};
use crate::support::TestEnv;
use crate::support::env::each_user;

/// Signals whose default action ends a process. (Busybox's shell ignores SIGQUIT.)
const DEADLY: [i32; 11] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGUSR1,
    libc::SIGSEGV,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGKILL,
];

#[test]
fn command_can_end_by_its_own_signal() {
    root_only!();
    let root = TestRoot::new();
    for user in ["", "app"] {
        for signal in DEADLY {
            let ended = |script: String| {
                let mut spec = root.sh(&script);
                spec.user = user.to_owned();
                root.run(&spec).unwrap_or_else(|e| panic!("{signal}: {e}")).outcome.exit
            };
            assert_eq!(ended(format!("kill -{signal} $$; exit 9")), Exit::Signal(signal), "{user}");
            if ![libc::SIGKILL, libc::SIGSEGV, libc::SIGFPE].contains(&signal) {
                // A handler that restores the default action and raises the signal again, as servers do.
                let script = format!("trap 'trap - {signal}; kill -{signal} $$' {signal}; kill -{signal} $$; exit 9");
                assert_eq!(ended(script), Exit::Signal(signal), "{user}");
            }
        }
    }
}

#[test]
fn init_forwards_signals_sent_to_process_1() {
    root_only!();
    let root = TestRoot::new();
    for user in ["", "app"] {
        let mut spec = root.sh("trap 'exit 7' TERM; kill -TERM 1; while :; do sleep 0.05; done");
        spec.user = user.to_owned();
        assert_eq!(root.run(&spec).unwrap().outcome.exit, Exit::Code(7), "{user}");
        // Orphans are reaped, and nothing of process 1 can be read.
        let script = "i=0; while [ $i -lt 20 ]; do (sleep 0 & ); i=$((i+1)); done; sleep 0.3; \
                      ps -o stat | grep -c Z; cat /proc/1/environ /proc/1/maps 2>/dev/null | wc -c; \
                      for one in fd/0 exe cwd root; do readlink /proc/1/$one; done; echo $PPID";
        let mut spec = root.sh(script);
        spec.user = user.to_owned();
        assert_eq!(root.run(&spec).unwrap().output, "0\n0\n1\n", "{user}");
    }
}

#[test]
fn command_can_be_process_1() {
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("echo $$; kill -TERM $$; echo survived; exit 3");
    spec.pid_one = true;
    let ran = root.run(&spec).unwrap();
    assert_eq!((&*ran.output, ran.outcome.exit), ("1\nsurvived\n", Exit::Code(3)));
}

/// Starts a script that prints "ready" and sends it signals with pauses. Returns its exit code and the time it took.
fn signalled(env: &TestEnv, args: &[&str], script: &str, signals: &[Signal]) -> (Option<i32>, Duration) {
    let line = [&["run"], args, &["busybox", "sh", "-c", script]].concat();
    let mut child = env.kiln(&line).spawn();
    let mut said = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("ready");
    let began = Instant::now();
    for signal in signals {
        kill(Pid::from_raw(child.id() as i32), *signal).expect("signal");
        std::thread::sleep(Duration::from_millis(200));
    }
    (child.wait().expect("wait").code(), began.elapsed())
}

#[test]
fn second_signal_forces_run_to_end() {
    requires!(userns, overlay);
    for env in each_user() {
        let deaf = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done";
        for (signals, code) in [
            ([Signal::SIGTERM, Signal::SIGTERM], 143),
            ([Signal::SIGINT, Signal::SIGINT], 130),
            ([Signal::SIGTERM, Signal::SIGINT], 130),
        ] {
            for args in [&[][..], &["--init=false"]] {
                let (ended, took) = signalled(&env, args, deaf, &signals);
                assert_eq!(ended, Some(code), "{signals:?} {args:?}");
                assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
            }
        }
        // A handler of the second signal has time to run.
        let slow = "n=0; trap 'n=$((n+1)); [ $n = 2 ] && exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let (ended, _) = signalled(&env, &[], slow, &[Signal::SIGINT, Signal::SIGINT]);
        assert_eq!(ended, Some(5));
        // Signals other than SIGINT and SIGTERM do not count.
        let counts = "n=0; trap 'n=$((n+1)); [ $n = 3 ] && exit 6' HUP USR1; echo ready; while :; do sleep 0.05; done";
        let (ended, _) = signalled(&env, &[], counts, &[Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGHUP]);
        assert_eq!(ended, Some(6));
    }
}
