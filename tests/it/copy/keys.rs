//! Test what is in the cache key of COPY (C-29), and that equal layers keep later steps cached (N-9).

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use crate::support::TestEnv;

type Change<'a> = (&'a str, &'a dyn Fn(&Path), bool);

#[test]
fn copy_key_covers_content_names_modes_links_not_times() {
    let env = TestEnv::new();
    let context =
        env.context("-- d/a --\na\n-- d/b --\nb\n-- d/l -> a --\n-- outside --\no\n-- .dockerignore --\nignored\n");
    let build = || {
        let (done, _) = super::build(&env, &context, "COPY d outsid[e] /n/", &[]);
        assert_eq!(done.code, 0, "{done}");
        done.stderr.lines().any(|line| line.starts_with("CACHED") && line.contains("COPY d"))
    };
    let set_time = |path: &Path, time| File::open(path).and_then(|f| f.set_modified(time)).expect("set a time");
    let put = |path: &Path, text: &str| fs::write(path, text).expect("write");
    let changes: &[Change<'_>] = &[
        ("nothing", &|_| {}, true),
        ("a time", &|c| set_time(&c.join("d/a"), SystemTime::now()), true),
        (
            "written again with the same content",
            &|c| {
                fs::remove_file(c.join("d/a")).expect("remove");
                put(&c.join("d/a"), "a\n");
            },
            true,
        ),
        ("an ignored file", &|c| put(&c.join("ignored"), "x"), true),
        ("a file that is not copied", &|c| put(&c.join("unrelated"), "x"), true),
        ("content", &|c| put(&c.join("d/a"), "A\n"), false),
        (
            "content of the same size and time",
            &|c| {
                let time = fs::metadata(c.join("d/a")).and_then(|m| m.modified()).expect("stat");
                put(&c.join("d/a"), "B\n");
                set_time(&c.join("d/a"), time);
            },
            false,
        ),
        ("a mode", &|c| fs::set_permissions(c.join("d/b"), Permissions::from_mode(0o755)).expect("chmod"), false),
        ("a name", &|c| fs::rename(c.join("d/b"), c.join("d/c")).expect("rename"), false),
        (
            "a link's text",
            &|c| {
                fs::remove_file(c.join("d/l")).expect("remove");
                symlink("c", c.join("d/l")).expect("symlink");
            },
            false,
        ),
        ("an empty directory", &|c| fs::create_dir(c.join("d/new")).expect("mkdir"), false),
        ("another file", &|c| put(&c.join("d/h"), "B\n"), false),
        (
            "which is now another name of the first",
            &|c| {
                fs::remove_file(c.join("d/h")).expect("remove");
                fs::hard_link(c.join("d/a"), c.join("d/h")).expect("link");
            },
            false,
        ),
        ("a match that goes away", &|c| fs::remove_file(c.join("outside")).expect("remove"), false),
    ];
    assert!(!build());
    for (what, change, same) in changes {
        change(&context);
        assert_eq!(build(), *same, "{what}");
        assert!(build(), "{what}: and again");
    }
}

#[test]
fn rebuilt_stage_with_same_files_keeps_copy_cached() {
    // C-29
    let env = TestEnv::new();
    let context = env.context("-- f --\nf\n-- g --\ng\n");
    let lines = |g: &str| format!("COPY f /f\nCOPY {g} /g\nFROM scratch\nCOPY --from=0 /f /x\nCOPY --from=0 /g /y");
    let (_, one) = super::build(&env, &context, &lines("g"), &[]);
    let (done, two) = super::build(&env, &context, &lines("f"), &[]);
    assert!(done.stderr.lines().any(|l| l.starts_with("CACHED") && l.contains("COPY --from=0 /f /x")), "{done}");
    let (one, two) = (env.image(&one), env.image(&two));
    assert_eq!(one.diff_ids()[0], two.diff_ids()[0]);
    assert_ne!(one.diff_ids()[1], two.diff_ids()[1]);
}

/// Builds `dockerfile` on busybox and returns which of its lines were cached.
fn cached(env: &TestEnv, context: &Path, dockerfile: &str) -> Vec<bool> {
    fs::write(context.join("Dockerfile"), format!("FROM busybox\n{dockerfile}")).expect("write");
    let progress = env.build(&["-t", "x"], context).ok().progress();
    let ran = progress.ran();
    dockerfile.lines().map(|line| !ran.contains(line)).collect()
}

#[test]
fn unchanged_layer_keeps_later_steps_cached() {
    // N-9
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- f 0644 --\nf\n-- g 0644 --\nf\n-- d/f 0644 --\nf\n");
    let set_time = |path: &str| {
        let file = File::open(context.join(path)).expect("open");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("set a time");
    };
    set_time("g");
    set_time("d/f");
    let mode = |mode| fs::set_permissions(context.join("f"), Permissions::from_mode(mode)).expect("chmod");
    let lines = "COPY --chmod=644 f /f\nRUN echo 1\nCOPY g /g\nRUN cat /f /g > /all";
    assert_eq!(cached(&env, &context, lines), [false; 4]);
    // Only what reaches the layer is in the key.
    mode(0o600);
    assert_eq!(cached(&env, &context, lines), [true; 4]);
    // Another command with the same (empty) layer: later steps stay cached, now and next time.
    let other = lines.replace("echo 1", "echo 2");
    assert_eq!(cached(&env, &context, &other), [true, false, true, true]);
    assert_eq!(cached(&env, &context, &other), [true; 4]);
    // A source with another name gives the same file in the layer.
    assert_eq!(cached(&env, &context, &other.replace("COPY g", "COPY d/f")), [true, true, false, true]);
    // A different layer reruns the later steps.
    fs::write(context.join("g"), "other").expect("write");
    assert_eq!(cached(&env, &context, lines), [true, true, false, false]);
    env.assert_swept();
}

#[test]
fn equal_run_layer_keeps_later_steps_cached() {
    // N-9: later steps wait for the layer of a command, which is still being compressed.
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- f --\nf\n");
    let lines = "RUN echo 1\nRUN echo one\nRUN mkdir -p /d && touch -d @7 /d/f /d / && echo\nRUN ls -l /d > /out";
    assert_eq!(cached(&env, &context, lines), [false; 4]);
    let other = lines.replace("echo 1", "echo 2");
    assert_eq!(cached(&env, &context, &other), [false, true, true, true]);
    // The same directory, made by another command.
    let other = other.replace("&& echo", "&& :");
    assert_eq!(cached(&env, &context, &other), [true, true, false, true]);
    // Another directory.
    let other = other.replace("@7", "@8");
    assert_eq!(cached(&env, &context, &other), [true, true, false, false]);
    env.assert_swept();
}
