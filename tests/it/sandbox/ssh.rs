//! Test `--ssh`: the agent inside a command, and the requests that it forwards.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::TestEnv;

use super::put_probe;

const DOCKERFILE: &str = "
-- Dockerfile --
FROM busybox
COPY probe /bin/probe
RUN --mount=type=ssh,required=true probe agent 11 17 18 19 20 22 27; echo at $SSH_AUTH_SOCK
RUN --mount=type=ssh,uid=1000,mode=0600 ls -ln $SSH_AUTH_SOCK
RUN [ -z \"$SSH_AUTH_SOCK\" ] && ls -A /run/buildkit 2>/dev/null | wc -l
";

/// Creates a key.
fn key(env: &TestEnv, passphrase: &str) -> PathBuf {
    let path = env.dir().join(format!("key{}", passphrase.len()));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-C", "comment", "-f"])
        .arg(&path)
        .status()
        .expect("run ssh-keygen");
    assert!(made.success());
    path
}

#[test]
fn ssh_key_file_is_usable_through_agent_only() {
    // M-17, M-18, M-19, O-34
    requires!(userns, overlay, cc, ssh_keygen, ssh_agent, ssh_add);
    let env = TestEnv::with_busybox();
    let key = key(&env, "");
    let context = env.context(DOCKERFILE);
    put_probe(&context.join("probe"));
    let done = env.build(&["--ssh", &format!("default={}", key.display()), "-t", "app"], &context).ok();
    // Message 12 is a list of keys, 5 a refusal of add, remove, remove all, lock and extensions.
    done.says("11 -> 12");
    for refused in [17, 18, 19, 20, 22, 27] {
        done.says(&format!("{refused} -> 5"));
    }
    done.says("at /run/buildkit/ssh_agent.0").says("1000");
    assert!(!env.image("app").tree().to_string().contains("buildkit"));
    let text = fs::read_to_string(&key).unwrap();
    let secret = text.lines().nth(2).unwrap();
    let found = Command::new("grep").args(["-rlF", secret]).arg(env.store()).output().unwrap();
    assert!(found.stdout.is_empty(), "the key is in {}", String::from_utf8_lossy(&found.stdout));
    env.assert_swept();
}

#[test]
fn unusable_ssh_agent_or_key_fails_before_anything_runs() {
    requires!(userns, overlay, cc, ssh_keygen, ssh_agent, ssh_add);
    let env = TestEnv::with_busybox();
    let context = env.context(DOCKERFILE);
    put_probe(&context.join("probe"));
    env.build(&["--ssh", "default"], &context).fails(2).says("SSH_AUTH_SOCK is not set");
    let dead = env.dir().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("bind"));
    let dead = dead.to_str().expect("UTF-8");
    let done = env.build(&["--ssh", "default"], &context).env("SSH_AUTH_SOCK", dead).fails(2);
    done.says("no agent answers at").says(dead).says("Connection refused").says("--ssh default=FILE");
    env.build(&["--ssh", &format!("id={dead}")], &context).fails(2).says("no agent answers at").says("--ssh id=FILE");
    env.build(&["--ssh", "default"], &context)
        .env("SSH_AUTH_SOCK", "/nonexistent")
        .fails(2)
        .says("no agent answers at");
    env.build(&["--ssh", "default=/nonexistent"], &context).fails(2).says("/nonexistent");
    env.build(&["--ssh", "=x"], &context).fails(2).says("the id is empty");
    env.build(&[], &context).fails(1).says("--ssh default");
    let key = key(&env, "secret words");
    env.build(&["--ssh", &format!("default={}", key.display())], &context).fails(2).says("passphrase");
    env.assert_swept();
}
