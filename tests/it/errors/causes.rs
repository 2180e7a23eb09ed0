//! Test that hints name the probable cause of a failure.

use super::says;
use crate::support::TestEnv;

const SCRIPT: &str = "FROM busybox\nCOPY s.sh /s.sh\nRUN /s.sh";

/// The whole message of `kiln build` for an instruction that failed.
fn failed(message: &str, line: usize, instruction: &str, hints: &[&str], output: &str) -> String {
    let hints: String = hints.iter().map(|hint| format!("  = help: {hint}\n")).collect();
    let gutter = " ".repeat(line.to_string().len());
    let bar = if hints.is_empty() { String::new() } else { format!("{gutter} |\n") };
    let output = if output.is_empty() { String::new() } else { format!("last output:\n  | {output}\n") };
    format!(
        "error: {message}\n{gutter}--> CTX/Dockerfile:{line}:1\n{gutter} |\n{line} | {instruction}\n{gutter} | {}\n{bar}{hints}{output}",
        "^".repeat(instruction.chars().count()),
    )
}

#[test]
fn script_start_failure_explains_cause() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let crlf = |file: &str| {
        format!(
            "save the file with LF line ends (dos2unix, or `*.sh text eol=lf` in .gitattributes): \
             the first line of {file} ends in a carriage return"
        )
    };
    let bash =
        |file: &str| format!("install /bin/bash, or change the first line of {file}: the image lacks this interpreter");
    for (script, run, hint, output) in [
        ("#!/bin/bash\n", "RUN /s.sh", bash("/s.sh"), "/bin/sh: /s.sh: not found"),
        ("#!/bin/sh\r\necho\r\n", "RUN /s.sh", crlf("/s.sh"), "/bin/sh: /s.sh: not found"),
        ("#!/bin/sh\r\n", "RUN cd /tmp && ../s.sh", crlf("../s.sh"), "/bin/sh: ../s.sh: not found"),
        ("#!/bin/bash\n", "RUN PATH=/ && s.sh", String::new(), "/bin/sh: s.sh: not found"),
        ("#!/bin/bash\n", "RUN mv /s.sh /bin/s && s", bash("/bin/s"), "/bin/sh: s: not found"),
    ] {
        let hint = match hint.is_empty() {
            // The script sets PATH itself, so that kiln cannot find the file.
            true => "check PATH and the base image: status 127 means command not found".to_owned(),
            false => hint,
        };
        says(
            &env,
            &format!("-- Dockerfile --\nFROM busybox\nCOPY s.sh /s.sh\n{run}\n-- s.sh 0755 --\n{script}"),
            &[],
            1,
            &failed("the command exited with status 127", 3, run, &[&hint], output),
        );
    }
    let context = env.context(&format!("-- Dockerfile --\n{SCRIPT}\n-- s.sh 0755 --\n#!/bin/bash\n"));
    let exec = SCRIPT.replace("RUN /s.sh", "RUN [\"/s.sh\"]");
    std::fs::write(context.join("Dockerfile"), exec).expect("write");
    env.build(&["-q"], &context).fails(1).says(&format!("help: {}", bash("/s.sh")));
}

#[test]
fn foreign_program_failure_names_loader_or_architecture() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY p /p\nRUN /p\n");
    // A dynamically linked program of this machine; the busybox root lacks its loader.
    let mut program = std::fs::read("/bin/ls").expect("read");
    let put = |program: &[u8]| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(context.join("p"), program).expect("write");
        std::fs::set_permissions(context.join("p"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    put(&program);
    let done = env.build(&["-q"], &context).fails(1);
    done.says("help: build /p for the image's C library").says("the image lacks its loader /lib");
    program[18..20].copy_from_slice(&22_u16.to_le_bytes());
    put(&program);
    // The busybox shell tries to run it as a script; with the exec form the kernel refuses it.
    env.build(&["-q"], &context).fails(1).says("help: copy the /p of this platform").says("a program for s390x");
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nCOPY p /p\nRUN [\"/p\"]\n").expect("write");
    env.build(&["-q"], &context).fails(1).says("help: copy the /p of this platform").says("a program for s390x");
}

#[test]
fn failed_run_names_missing_optional_secrets_and_agents() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let run = "RUN --mount=type=secret,id=tok --mount=type=ssh exit 3";
    says(
        &env,
        &format!("-- Dockerfile --\nFROM busybox\n{run}\n"),
        &[],
        1,
        &failed(
            "the command exited with status 3",
            2,
            run,
            &[
                "if the command needs the secret \"tok\", pass --secret id=tok,src=FILE",
                "if the command needs the ssh agent \"default\", pass --ssh default",
            ],
            "",
        ),
    );
    let context = env.context(&format!("-- Dockerfile --\nFROM busybox\n{run}\n-- t --\nx\n"));
    let secret = format!("id=tok,src={}", context.join("t").display());
    env.build(&["-q", "--secret", &secret], &context).fails(1).never_says("the secret \"tok\"");
}

#[test]
fn json_list_with_wrong_quotes_gets_a_hint() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let hint = "write a JSON list with double quotes (\") and nothing after `]`";
    let run = "RUN [\u{201c}echo\u{201d}, \u{201c}a\u{201d}]";
    says(
        &env,
        &format!("-- Dockerfile --\nFROM busybox\n{run}\n"),
        &[],
        1,
        &failed("the command exited with status 127", 2, run, &[hint], "/bin/sh: [\u{201c}echo\u{201d},: not found"),
    );
    for (instruction, listed) in [
        ("RUN ['echo', 'a']", true),
        ("COPY [\u{2018}a\u{2019}, \u{2018}/b\u{2019}]", true),
        ("RUN [ -f /nowhere ]", false),
        ("RUN [ 'a' = 'b' ]", false),
        ("RUN [\"false\"]", false),
    ] {
        let context = env.context(&format!("-- Dockerfile --\nFROM busybox\n{instruction}\n"));
        let done = env.build(&["-q"], &context).fails(1);
        assert_eq!(done.stderr.contains(hint), listed, "{done}");
    }
}

#[test]
fn workdir_and_copy_name_the_obstacle() {
    let env = TestEnv::new();
    let occupied = |line, instruction: &str| {
        let hint = "choose another directory, or remove it in an earlier RUN";
        failed("/file is a file, not a directory", line, instruction, &[hint], "")
    };
    for path in ["/file", "/file/sub"] {
        let workdir = format!("WORKDIR {path}");
        let context = format!("-- Dockerfile --\nFROM scratch\nCOPY f /file\n{workdir}\n-- f --\nx\n");
        says(&env, &context, &[], 1, &occupied(3, &workdir));
    }
    for (source, hint) in [
        ("a*", "change the symlink: a1 leads through a symlink to nowhere, which does not exist"),
        ("a1", "change the symlink: a1 leads through a symlink to nowhere, which does not exist"),
    ] {
        let context = format!("-- Dockerfile --\nFROM scratch\nCOPY {source} /x/\n-- a1 -> nowhere --\n");
        let want = format!(
            "error: {source} not found in the context\n --> CTX/Dockerfile:2:6\n  |\n2 | COPY {source} /x/\n  |      ^^\n  |\n  = help: {hint}\n"
        );
        says(&env, &context, &[], 1, &want);
    }
    for source in ["a", "a/f", "b"] {
        let copy = format!("COPY {source} /x/");
        let want = failed(
            &format!("{source}: too many levels of symbolic links"),
            2,
            &copy,
            &["make one of the symlinks point to a file"],
            "",
        );
        says(&env, &format!("-- Dockerfile --\nFROM scratch\n{copy}\n-- a -> b --\n-- b -> a --\n"), &[], 1, &want);
    }
}

#[test]
fn dockerfile_linking_outside_context_is_not_quoted() {
    let env = TestEnv::new();
    let secret = env.dir().join("secret");
    std::fs::write(&secret, "FROM scratch\nhunter2\n").expect("write");
    let context = env.context("-- f --\n");
    std::os::unix::fs::symlink(&secret, context.join("Dockerfile")).expect("symlink");
    for progress in ["plain", "json"] {
        let done = env.build(&["--progress", progress], &context).fails(1);
        done.never_says("hunter2").says("links to").says("outside the context, which is not a valid Dockerfile");
    }
    // A file named with -f is quoted in errors; a valid one is built.
    env.build(&["-f", "secret"], &context).fails(1).says("hunter2");
    std::fs::write(&secret, "FROM scratch\nLABEL a=b\n").expect("write");
    env.build(&["-q"], &context).ok();
}

#[test]
fn misplaced_ignore_file_and_too_many_layers_warn() {
    let env = TestEnv::new();
    let context = env.context("-- d/Dockerfile --\nFROM scratch\nLABEL a=b\n-- d/.dockerignore --\nx\n");
    let file = context.join("d/Dockerfile");
    let file = file.to_str().expect("UTF-8");
    let done = env.build(&["-f", file], &context).ok();
    done.says("d/.dockerignore has no effect: it is not in the root of the context");
    done.says("hint: rename it to Dockerfile.dockerignore");
    std::fs::rename(context.join("d/.dockerignore"), context.join("d/Dockerfile.dockerignore")).expect("rename");
    env.build(&["-f", file], &context).ok().never_says("has no effect");

    let many = |count| "FROM scratch\n".to_owned() + &"COPY f /\n".repeat(count);
    for (count, warned) in [(127, false), (128, true)] {
        let context = env.context(&format!("-- Dockerfile --\n{}-- f --\n", many(count)));
        let done = env.build(&[], &context).ok();
        let warning = format!("warning: the image has {count} layers; Docker stacks at most 127: join RUN");
        assert_eq!(done.stderr.contains(&warning), warned, "{done}");
    }
}

#[test]
fn options_of_other_builders_suggest_alternatives() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nLABEL a=b\n");
    for (args, error, hint) in [
        (&["--skip-tls-verify"][..], "--skip-tls-verify", "use --tls-verify=false, or name the registry"),
        (&["--timestamp", "0"], "--timestamp", "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
        (&["--storage-driver=vfs"], "--storage-driver=vfs", "use --snapshotter overlay or --snapshotter copy"),
        (&["--omit-history"], "--omit-history", "omit it: a config always has its history"),
        (&["--context=dir://x"], "--context", "give the context as the last argument: kiln build DIR"),
        (&["--single-snapshot"], "--single-snapshot", "copy the result into one layer"),
        (&["--layers=false"], "--layers=false", "use --no-cache to run every step again"),
        (&["-v", "a:b"], "-v", "use RUN --mount=type=bind or type=cache"),
    ] {
        let done = env.build(args, &context).fails(2);
        assert!(done.stderr.starts_with(&format!("error: {error} is not supported\nhint: {hint}")), "{done}");
    }
    env.build(&["-q", "--rm", "--layers", "--no-push", "--tls-verify=true", "--storage-driver", "overlay"], &context)
        .ok();
    let done = env.build(&["--pull", "never"], &context).fails(2);
    assert_eq!(done.stderr, "error: --pull never: want = before the value\nhint: use --pull=never\n");
    env.kiln(&["pull", "--skip-tls-verify", "x"]).fails(2).says("use --tls-verify=false, or name the registry");
}
