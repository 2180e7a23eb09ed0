//! Test standard input, signals and the terminal of `kiln run` and `--on-failure=shell`.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::support::env::each_user;
use crate::support::{TestEnv, processes};

#[test]
fn standard_input_is_forwarded_only_with_interactive() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    assert_eq!(&*env.kiln(&["run", "-i", "busybox", "cat"]).stdin(b"typed").ok(), "typed");
    assert_eq!(&*env.kiln(&["run", "busybox", "cat"]).stdin(b"typed").ok(), "");
}

/// Reads standard output until `text` appears.
fn wait_for(child: &mut Child, text: &str) {
    let out = child.stdout.as_mut().expect("a pipe");
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&said).contains(text) {
        assert_eq!(
            out.read(&mut byte).expect("read"),
            1,
            "it ended and said only {:?}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
}

/// Runs `script` and sends `signal` after it printed "ready". Returns the exit code and the time until the end.
fn signalled(env: &TestEnv, script: &str, signal: Signal) -> (i32, Duration) {
    let mut child = env.kiln(&["run", "busybox", "sh", "-c", script]).spawn();
    wait_for(&mut child, "ready");
    let sent = Instant::now();
    kill(Pid::from_raw(child.id() as i32), signal).expect("signal");
    let status = child.wait().expect("wait");
    (status.code().expect("kiln itself is not killed"), sent.elapsed())
}

#[test]
fn run_forwards_signals_to_command() {
    requires!(userns, overlay);
    let all = each_user();
    for env in &all {
        let traps =
            "trap 'exit 7' TERM; trap 'exit 8' INT; trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done";
        for (signal, code) in [(Signal::SIGTERM, 7), (Signal::SIGINT, 8), (Signal::SIGUSR1, 9)] {
            assert_eq!(signalled(env, traps, signal).0, code, "{signal}");
        }
        // The kernel would drop a signal that process 1 does not handle.
        let (code, took) = signalled(env, "echo ready; exec sleep 60", Signal::SIGTERM);
        assert_eq!(code, 143);
        assert!(took < Duration::from_secs(1), "{took:?}");
        env.assert_swept();
    }
}

#[test]
fn killed_run_is_swept_by_next_run() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    // An argument by which all its processes are found: kiln, kiln in its user namespace, and the command.
    let argument = env.dir().to_str().expect("UTF-8");
    let mut child = env.kiln(&["run", "busybox", "sh", "-c", "echo ready; sleep 1000; true", argument]).spawn();
    wait_for(&mut child, "ready");
    let all = processes::with(argument);
    assert!(all.len() > 1, "{all:?}");
    child.kill().expect("kill");
    child.wait().expect("wait");
    processes::until_ended(&all);
    env.kiln(&["run", "busybox", "true"]).ok();
    env.assert_swept();
}

/// A pseudo-terminal: the test uses the first end, kiln gets the second.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = rustix::pty::openpt(flags).expect("openpt");
    rustix::pty::unlockpt(&outer).expect("unlockpt");
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).expect("the other end");
    (outer, inner)
}

/// The output of a terminal that was not matched yet.
struct Screen {
    terminal: std::fs::File,
    said: String,
}

impl Screen {
    fn of(outer: &OwnedFd) -> Self {
        Self { terminal: outer.try_clone().expect("dup").into(), said: String::new() }
    }

    #[track_caller]
    fn until(&mut self, text: &str) {
        let mut buffer = [0; 256];
        let end = loop {
            if let Some(at) = self.said.find(text) {
                break at + text.len();
            }
            let mut fds = [PollFd::new(&self.terminal, PollFlags::IN)];
            let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
            let polled = poll(&mut fds, Some(&patience));
            assert_eq!(polled, Ok(1), "waiting for {text:?}, it said only {:?}", self.said);
            let n = self.terminal.read(&mut buffer).expect("read the screen");
            self.said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        };
        self.said.drain(..end);
    }

    fn keys(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).expect("type");
    }
}

#[test]
fn tty_gives_command_terminal_with_size_and_keys() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (outer, inner) = terminal();
    let size = |rows, cols| Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&outer, size(24, 101)).expect("set the size");
    let before = rustix::termios::tcgetattr(&inner).expect("its mode");
    let script = "tty; stty size; trap 'echo caught' INT; trap 'stty size' WINCH; read x; echo got $x; \
                  until read y; do :; done; exit 5";
    let stdio = || Stdio::from(inner.as_fd().try_clone_to_owned().expect("dup"));
    let line = ["run", "-it", "-e", "TERM=dumb", "busybox", "sh", "-c", script];
    let mut child = env.kiln(&line).stdio(stdio(), stdio(), stdio()).spawn();
    let mut screen = Screen::of(&outer);
    screen.until("24 101");
    let raw = rustix::termios::tcgetattr(&inner).expect("its mode");
    assert!(!raw.local_modes.contains(rustix::termios::LocalModes::ICANON), "keys go inside at once");
    screen.keys("one\r");
    screen.until("got one");
    // Ctrl-C signals the command only.
    screen.keys("\x03");
    screen.until("caught");
    rustix::termios::tcsetwinsize(&outer, size(30, 90)).expect("set the size");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGWINCH).expect("signal");
    screen.until("30 90");
    screen.keys("\r");
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(5));
    let after = rustix::termios::tcgetattr(&inner).expect("its mode");
    assert_eq!(after.local_modes, before.local_modes, "the terminal is as it was");
    env.assert_swept();
}

#[test]
fn on_failure_shell_has_files_and_environment_of_command() {
    // O-73
    requires!(userns, overlay);
    let all = each_user();
    for env in &all {
        let context = env.context(
            "
-- Dockerfile --
FROM busybox
RUN echo of this build > /fresh
ENV A=b
WORKDIR /srv
USER app
RUN --mount=type=tmpfs,target=/mnt echo left > /tmp/file; exit 3
",
        );
        let (outer, inner) = terminal();
        let stdio = || Stdio::from(inner.as_fd().try_clone_to_owned().expect("dup"));
        let line = ["--progress", "plain", "--on-failure=shell"];
        let mut child = env.build(&line, &context).stdio(stdio(), stdio(), stdio()).spawn();
        let mut screen = Screen::of(&outer);
        screen.until("/srv $ ");
        screen.keys("echo $(id -un) $A $(cat /fresh /tmp/file) $(mount | grep -c ' /mnt ')\r");
        screen.until("app b of this build left 1\r");
        screen.keys("exit 9\r");
        // The build fails whatever the shell returns.
        screen.until("the command exited with status 3");
        screen.until("Dockerfile:6:1");
        assert_eq!(child.wait().expect("wait").code(), Some(1));
        env.assert_swept();
        env.build(&line, &context).fails(2).says("--on-failure=shell: standard input is not a terminal");
    }
}

#[test]
fn command_cannot_reach_terminal_of_caller() {
    // S-73
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (_outer, inner) = terminal();
    let stdio = || Stdio::from(inner.as_fd().try_clone_to_owned().expect("dup"));
    // Without -t the command has no terminal, although kiln has one.
    let out = env.kiln(&["run", "busybox", "sh", "-c", "test -t 0 && exit 1; (: 3<>/dev/tty) && exit 2; exit 0"]);
    let status = out.stdio(stdio(), Stdio::null(), Stdio::null()).spawn().wait().expect("wait");
    assert_eq!(status.code(), Some(0));
}
