//! Test `RUN --mount=type=ssh`: one command can reach an agent. Which requests are forwarded is tested in
//! `sandbox::ssh`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::{built, context, refused};
use crate::sandbox::put_probe;
use crate::support::TestEnv;
use crate::support::env::each_user;

/// An agent that answers every request with one message type, and reports when a connection ended.
struct Agent {
    path: PathBuf,
    ended: Receiver<()>,
}

impl Agent {
    fn start(dir: &Path, name: &str, answer: u8) -> Agent {
        let path = dir.join(name);
        let listener = UnixListener::bind(&path).expect("bind");
        // Kiln of the plain user must be able to connect.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        let (sender, ended) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let sender = sender.clone();
                std::thread::spawn(move || talk(stream, answer, &sender));
            }
        });
        Agent { path, ended }
    }
}

fn talk(mut stream: UnixStream, answer: u8, ended: &Sender<()>) {
    let (mut asked, mut request) = (false, [0; 64]);
    while stream.read(&mut request).is_ok_and(|n| n > 0) {
        asked = true;
        if stream.write_all(&[0, 0, 0, 1, answer]).is_err() {
            break;
        }
    }
    // kiln also connects without a request, to check that the agent is alive.
    if asked {
        ended.send(()).ok();
    }
}

/// Builds an image `probed` with the probe program.
fn prepared(env: &TestEnv) {
    let dir = context(env, "COPY probe /bin/probe", "");
    put_probe(&dir.join("probe"));
    env.build(&["-t", "probed"], &dir).ok();
}

fn build(env: &TestEnv, args: &[&str], lines: &str) {
    let all: Vec<&str> = ["--progress", "plain", "-t", "app"].into_iter().chain(args.iter().copied()).collect();
    env.build(&all, &env.context(&format!("-- Dockerfile --\nFROM probed\n{lines}\n"))).ok();
}

#[test]
fn each_ssh_mount_has_its_own_socket_and_first_is_default() {
    // M-17, M-18
    requires!(userns, overlay, cc);
    for env in each_user() {
        prepared(&env);
        let (one, two) = (Agent::start(env.dir(), "one", 12), Agent::start(env.dir(), "two", 99));
        let (one, two) = (format!("default={}", one.path.display()), format!("id2={}", two.path.display()));
        build(
            &env,
            &["--ssh", &one, "--ssh", &two],
            "RUN --mount=type=ssh --mount=type=ssh,id=id2 --mount=type=ssh,target=/deep/third.sock \
             test \"$(ls /run/buildkit)\" = \"$(printf 'ssh_agent.0\\nssh_agent.1')\" && test -S /deep/third.sock && \
             test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && probe agent 11 | grep -- '-> 12' && \
             SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 probe agent 11 | grep -- '-> 99' && \
             SSH_AUTH_SOCK=/deep/third.sock probe agent 11 | grep -- '-> 12'\n\
             RUN --mount=type=ssh,id=id2,target=/s test $SSH_AUTH_SOCK = /s && probe agent 13 | grep -- '-> 99'\n\
             RUN test ! -e /run/buildkit && test ! -e /s && test -z \"$SSH_AUTH_SOCK\"\n\
             ENV SSH_AUTH_SOCK=/mine\n\
             RUN --mount=type=ssh test $SSH_AUTH_SOCK = /mine && test -S /run/buildkit/ssh_agent.0",
        );
        let tree = env.image("app").tree();
        assert!(!tree.has("run/buildkit") && !tree.has("deep") && !tree.has("s"), "{tree}");
        env.assert_swept();
    }
}

#[test]
fn ssh_socket_has_mode_and_owner_of_mount() {
    // M-19
    requires!(userns, overlay, cc);
    for env in each_user() {
        prepared(&env);
        let agent = Agent::start(env.dir(), "agent", 12);
        build(
            &env,
            &["--ssh", &format!("default={}", agent.path.display())],
            "RUN --mount=type=ssh test \"$(stat -c '%a %u %g' $SSH_AUTH_SOCK)\" = '600 0 0'\n\
             RUN --mount=type=ssh,mode=0640,uid=1000,gid=1500 test \"$(stat -c '%a %u %g' $SSH_AUTH_SOCK)\" = '640 1000 1500'\n\
             USER app\n\
             RUN --mount=type=ssh probe agent 11 | grep -q EACCES\n\
             RUN --mount=type=ssh,uid=1000 probe agent 11 | grep -- '-> 12'\n\
             RUN --mount=type=ssh,mode=0666 probe agent 11 | grep -- '-> 12'",
        );
        built(&env, &[], "RUN --mount=type=ssh test ! -e /run/buildkit/ssh_agent.0");
        built(&env, &[], "RUN --mount=type=ssh,required=false,target=/s test ! -e /s");
        for required in ["required", "required=true"] {
            refused(&env, 1, &format!("RUN --mount=type=ssh,{required} true")).says("--ssh default");
            refused(&env, 1, &format!("RUN --mount=type=ssh,id=x,{required} true")).says("--ssh x");
        }
    }
}

#[test]
fn ssh_socket_ends_with_its_command() {
    // M-18, S-115
    requires!(userns, overlay, cc);
    for env in each_user() {
        prepared(&env);
        let agent = Agent::start(env.dir(), "agent", 12);
        // A connection that a background process keeps open.
        let lines = "RUN --mount=type=ssh probe talk 11 & sleep 0.3; echo one; sleep 0.5\nRUN echo two; sleep 1";
        let dir = env.context(&format!("-- Dockerfile --\nFROM probed\n{lines}\n"));
        let given = format!("default={}", agent.path.display());
        let mut child = env.build(&["--progress", "plain", "--ssh", &given], &dir).spawn();
        let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let sockets = || {
            let files = walkdir::WalkDir::new(env.store().join("scratch")).into_iter().flatten();
            files.filter(|entry| entry.file_type().is_socket()).count()
        };
        assert!(said.any(|line| line.contains("| one")));
        assert_eq!(sockets(), 1);
        assert!(said.any(|line| line.contains("| two")));
        assert_eq!(sockets(), 0, "the socket outlived its command");
        agent.ended.recv_timeout(Duration::from_millis(500)).expect("the connection ends with its command");
        assert!(said.count() > 0 && child.wait().expect("wait").success());
        env.assert_swept();
    }
}
