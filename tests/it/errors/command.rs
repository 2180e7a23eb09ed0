//! Test the messages for failing commands.

use super::{intact, says};
use crate::support::TestEnv;

#[test]
fn failed_run_shows_status_and_last_output() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let last: String = (6..=25).map(|i| format!("  | line {i}\n")).collect();
    says(
        &env,
        "-- Dockerfile --\nFROM busybox\nRUN seq 25 | sed 's/^/line /' && \\\n    exit 7\n",
        &[],
        1,
        &format!(
            "error: the command exited with status 7
 --> CTX/Dockerfile:2:1
  |
2 | RUN seq 25 | sed 's/^/line /' && \\
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
last output:
{last}"
        ),
    );
}

#[test]
fn missing_command_is_reported() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    says(
        &env,
        "-- Dockerfile --\nFROM busybox\nRUN frobnicate\n",
        &[],
        1,
        "error: the command exited with status 127
 --> CTX/Dockerfile:2:1
  |
2 | RUN frobnicate
  | ^^^^^^^^^^^^^^
  |
  = help: check PATH and the base image: status 127 means command not found
last output:
  | /bin/sh: frobnicate: not found
",
    );
    says(
        &env,
        "-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\nRUN true\n",
        &[],
        1,
        "error: cannot execute /bin/sh: No such file or directory
 --> CTX/Dockerfile:3:1
  |
3 | RUN true
  | ^^^^^^^^
  |
  = help: check the path: the root has no such file
",
    );
    says(
        &env,
        "-- Dockerfile --\nFROM busybox\nUSER ap\nRUN true\n",
        &[],
        1,
        "error: no user \"ap\" in /etc/passwd of the root
 --> CTX/Dockerfile:3:1
  |
3 | RUN true
  | ^^^^^^^^
  |
  = help: use one of root, daemon, app, nobody, or a numeric id
",
    );
}

#[test]
fn command_output_cannot_send_control_characters() {
    // S-99
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nRUN printf '\\033]0;title\\007\\033[31mred\\033[0m\\rover\\010 \\302\\233x\\n'; exit 1\n",
    );
    for progress in ["plain", "json", "quiet"] {
        let done = env.build(&["--progress", progress], &context).fails(1);
        assert!(!done.stderr.contains(['\x1b', '\x07', '\x08', '\u{9b}', '\r']), "{done}");
    }
    intact(&env);
}

#[test]
fn untrusted_names_cannot_send_control_characters() {
    // S-99
    let env = TestEnv::new();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}c\u{202e}";
    let context = env.context("-- f --\n");
    let write = |text: &str| std::fs::write(context.join("Dockerfile"), text).expect("write");
    let clean = |text: &str| assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{text:?}");
    // JSON may contain bidirectional control characters: escaping them is up to the reader.
    let data = |text: &str| clean(&text.replace('\u{202e}', ""));
    for (dockerfile, code) in [
        (format!("FROM scratch\nCOPY \"gone{evil}\" /\n"), 1),
        (format!("FROM scratch AS x{evil}\n"), 1),
        (format!("FROM scratch\nNONSENSE{evil} x\n"), 1),
        (format!("FROM scratch\nCOPY f \"/{evil}\"\n"), 0),
        (format!("FROM scratch\nCOPY f /\nLABEL a=\"{evil}\"\nCMD [\"{}\"]\n", "\\u001b[2J"), 0),
    ] {
        write(&dockerfile);
        for progress in ["plain", "json"] {
            let done = env.build(&["--progress", progress, "-t", "named", "--no-cache"], &context).output();
            assert_eq!(done.code, code, "{done}");
            match progress {
                "json" => data(&done.stderr),
                _ => clean(&done.stderr),
            }
        }
    }
    for line in [
        &["history", "named"][..],
        &["history", "--no-trunc", "named"],
        &["inspect", "named"],
        &["images"],
        &["diff", "named", "named"],
    ] {
        let done = env.kiln(line).output();
        match line[0] {
            "inspect" => data(&done.stdout),
            _ => clean(&done.stdout),
        }
        clean(&done.stderr);
    }
    let done = env.kiln(&["inspect", &format!("gone{evil}")]).output();
    assert_ne!(done.code, 0, "{done}");
    clean(&done.stderr);
}

#[test]
fn excessive_output_is_truncated() {
    //
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN yes 0123456789abcdef | head -c 60000000; exit 3\n");
    let done = env.build(&["--progress", "plain"], &context).fails(1);
    assert!(done.stderr.len() < 4 << 20, "{} bytes", done.stderr.len());
    done.says("KiB of output: the rest is not shown]").says("status 3");
    // One endless line.
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN head -c 60000000 /dev/zero; exit 4\n");
    let done = env.build(&["--progress", "plain"], &context).fails(1);
    assert!(done.stderr.len() < 16 << 20, "{} bytes", done.stderr.len());
    done.says("status 4");
}

#[test]
fn build_ends_at_timeout() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    says(
        &env,
        "-- Dockerfile --\nFROM busybox\nRUN sleep 100\n",
        &["--timeout", "300ms"],
        1,
        "error: the build took longer than 300ms\nhint: raise --timeout\n",
    );
}
