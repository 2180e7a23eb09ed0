//! Test what `kiln cache explain` says of each change, and that a build with a shared cache runs those steps.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::support::TestEnv;
use crate::support::env::each_user;
use crate::support::requires::is_root;

const CONTEXT: &str = "
-- Dockerfile --
# the tool
FROM busybox AS tool
RUN echo tool > /tool

FROM busybox AS app
ARG VERSION=1
ARG UNUSED=1
ENV COLOUR=blue
COPY src/ /src/
RUN --mount=type=bind,source=mounted,target=/m --mount=type=cache,target=/c --mount=type=secret,id=s date >> /c/x; cat /m/f
COPY --from=tool /tool /
-- mounted/f --
mounted
-- other/f --
mounted
-- src/a --
a
-- src/b --
b
-- src/link -> a --
-- notes.md --
nothing copies this
-- .dockerignore --
**/*.log
";

/// What is done to a context.
type Change = fn(&Path);

/// Gives a file to somebody else, as far as this user can: a plain one can only give it to a group of its own.
fn give_away(context: &Path) {
    let (user, group) = if is_root() { (Some(7), Some(7)) } else { (None, Some(rustix::process::getegid().as_raw())) };
    chown(context.join("src/a"), user, group).expect("chown");
}

/// A change, the options of the build after it, and what is said of each step that is not cached, by the names of [`short`].
type Case = (&'static str, Change, &'static [&'static str], &'static str);

const ALL_CACHED: [Case; 13] = [
    ("nothing", |_| {}, &[], ""),
    ("a time", touch, &[], ""),
    ("the order of a directory", recreate, &[], ""),
    ("a file that is copied nowhere", |c| write(c, "notes.md", "other\n"), &[], ""),
    ("a file that is ignored", |c| write(c, "src/x.log", "x\n"), &[], ""),
    ("the owner in the context", give_away, &[], ""),
    ("comments and blank lines", |c| edit(c, "# the tool", "# what it needs\n\n"), &[], ""),
    ("the name of a stage", rename_stage, &[], ""),
    (
        "an instruction that moved",
        |c| edit(c, "ENV COLOUR=blue\nCOPY src/ /src/", "COPY src/ /src/\nENV COLOUR=blue"),
        &[],
        "",
    ),
    ("an argument that nobody declares", |_| {}, &["--build-arg", "NOBODY=1"], ""),
    ("an argument that is as its default", |_| {}, &["--build-arg", "VERSION=1"], ""),
    ("a proxy", |_| {}, &["--build-arg", "HTTP_PROXY=http://127.0.0.1:9"], ""),
    ("the command of the image", |c| edit(c, "COPY --from", "CMD [\"ls\"]\nCOPY --from"), &[], ""),
];

const FILES: [Case; 7] = [
    (
        "content",
        |c| write(c, "src/a", "other\n"),
        &[],
        "C: files changed, src/a: content 87428fc52280 -> 7e4fa2eb8c7a; R: because C runs; F: because R runs",
    ),
    (
        "mode",
        |c| fs::set_permissions(c.join("src/a"), PermissionsExt::from_mode(0o4600)).expect("chmod"),
        &[],
        "C: files changed, src/a: mode 0644 -> 4600; R: because C runs; F: because R runs",
    ),
    (
        "name",
        |c| fs::rename(c.join("src/a"), c.join("src/z")).expect("rename"),
        &[],
        "C: files changed, src/z was added, src/a was removed; R: because C runs; F: because R runs",
    ),
    (
        "a new file",
        |c| (0..12).for_each(|n| write(c, &format!("src/{n:02}"), "")),
        &[],
        "C: files changed, src/00 was added, src/01 was added, src/02 was added, src/03 was added, src/04 was added, src/05 was added, src/06 was added, src/07 was added, src/08 was added, src/09 was added, and 2 more; R: because C runs; F: because R runs",
    ),
    (
        "no file",
        |c| fs::remove_file(c.join("src/b")).expect("remove"),
        &[],
        "C: files changed, src/b was removed; R: because C runs; F: because R runs",
    ),
    (
        "link target and kind",
        |c| {
            fs::remove_file(c.join("src/link")).expect("remove");
            symlink("b", c.join("src/link")).expect("link");
            fs::remove_file(c.join("src/b")).expect("remove");
            symlink("a", c.join("src/b")).expect("link");
        },
        &[],
        "C: files changed, src/b: type file -> symlink, mode 0644 -> 0777, src/link: link target a -> b; R: because C runs; F: because R runs",
    ),
    (
        "extended attributes",
        |c| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(c.join("src/a"), "user.kiln", b"value", flags).expect("set an attribute");
        },
        &[],
        "C: files changed, src/a: extended attributes none -> 0aeac5d2abec; R: because C runs; F: because R runs",
    ),
];

const INSTRUCTIONS: [Case; 15] = [
    (
        "a declared argument",
        |_| {},
        &["--build-arg", "VERSION=2"],
        "R: build argument VERSION changed; F: because R runs",
    ),
    (
        "an argument that no command names",
        |_| {},
        &["--build-arg", "UNUSED=2"],
        "R: build argument UNUSED changed; F: because R runs",
    ),
    (
        "the default of an argument",
        |c| edit(c, "VERSION=1", "VERSION=2"),
        &[],
        "R: build argument VERSION changed; F: because R runs",
    ),
    (
        "an argument less, a variable more",
        |c| edit(c, "ARG UNUSED=1", "ENV SIZE=1"),
        &[],
        "R: variable SIZE was added, build argument UNUSED was removed; F: because R runs",
    ),
    ("a variable", |c| edit(c, "COLOUR=blue", "COLOUR=secret"), &[], "R: variable COLOUR changed; F: because R runs"),
    (
        "the user",
        |c| edit(c, "RUN --mount", "USER 1\nRUN --mount"),
        &[],
        "R: another instruction was at this place; F: not built before, because R runs",
    ),
    (
        "the working directory",
        |c| edit(c, "RUN --mount", "WORKDIR /w\nRUN --mount"),
        &[],
        "W: another instruction was at this place; R: another instruction was at this place, because W runs; F: not built before, because R runs",
    ),
    (
        "the shell",
        |c| edit(c, "RUN --mount", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN --mount"),
        &[],
        "R: another instruction was at this place; F: not built before, because R runs",
    ),
    ("the command", |c| edit(c, "date >>", "date >"), &[], "R: the command changed; F: because R runs"),
    (
        "the files of a mount",
        |c| write(c, "mounted/f", "other\n"),
        &[],
        "R: files of mount /m changed, mounted/f: content db98c16036a6 -> 7e4fa2eb8c7a; F: because R runs",
    ),
    (
        "the source of a mount",
        |c| edit(c, "source=mounted", "source=other"),
        &[],
        "R: mount /m changed; F: because R runs",
    ),
    (
        "the id of a secret",
        |c| edit(c, "type=secret,id=s", "type=secret,id=t"),
        &[],
        "R: mount /run/secrets/t was added, mount /run/secrets/s was removed; F: because R runs",
    ),
    ("another stage", |c| edit(c, "echo tool", "echo new"), &[], "T: the command changed; F?: depends on files of T"),
    ("another destination", |c| edit(c, "/tool /\n", "/tool /bin/\n"), &[], "F: the instruction changed"),
    (
        "a new instruction",
        |c| edit(c, "COPY --from", "RUN true\nCOPY --from"),
        &[],
        "N: another instruction was at this place; F: not built before, because N runs",
    ),
];

fn write(context: &Path, path: &str, text: &str) {
    fs::write(context.join(path), text).expect("write");
}

fn edit(context: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(context.join("Dockerfile")).expect("read");
    assert!(text.contains(old), "{old}");
    write(context, "Dockerfile", &text.replace(old, new));
}

fn touch(context: &Path) {
    let file = fs::File::options().append(true).open(context.join("src/a")).expect("open");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("touch");
}

fn recreate(context: &Path) {
    let src = context.join("src");
    let (a, b) = (fs::read(src.join("a")).expect("read"), fs::read(src.join("b")).expect("read"));
    ["a", "b", "link"].iter().for_each(|name| fs::remove_file(src.join(name)).expect("remove"));
    symlink("a", src.join("link")).expect("link");
    fs::write(src.join("b"), b).expect("write");
    fs::write(src.join("a"), a).expect("write");
}

fn rename_stage(context: &Path) {
    edit(context, "AS tool", "AS helper");
    edit(context, "--from=tool", "--from=helper");
}

/// A short name for a step.
fn short(instruction: &str) -> &'static str {
    let names = [
        ("FROM", "B"),
        ("COPY src", "C"),
        ("COPY --from", "F"),
        ("RUN --mount", "R"),
        ("RUN echo", "T"),
        ("RUN true", "N"),
        ("WORKDIR", "W"),
    ];
    names.iter().find(|(start, _)| instruction.starts_with(start)).unwrap_or_else(|| panic!("{instruction}")).1
}

/// What is said of steps that are not cached: `R: REASON, REASON; F: REASON`. Steps have the names of [`short`].
fn shortened(text: &str) -> String {
    let split = |line: &str| {
        let (tag, instruction) = line[8..].split_once("] ")?;
        Some((format!("{tag}]"), short(instruction)))
    };
    let steps: Vec<(String, &str)> = text
        .lines()
        .filter(|line| line.contains(" ["))
        .filter(|line| !line.starts_with(' '))
        .filter_map(split)
        .collect();
    let mut said: Vec<(bool, &str, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(reason) => {
                let reason =
                    steps.iter().fold(reason.trim().to_owned(), |r, (tag, name)| r.replace(tag.as_str(), name));
                said.last_mut().expect("a step").2.push(reason);
            }
            None if line.contains(" [") => {
                let (_, name) = split(line).expect("a step");
                said.push((line.starts_with("DEPENDS"), name, Vec::new()));
            }
            None => {}
        }
    }
    let said = said.into_iter().filter(|(_, _, reasons)| !reasons.is_empty());
    let said = said.map(|(may, name, reasons)| format!("{name}{}: {}", if may { "?" } else { "" }, reasons.join(", ")));
    said.collect::<Vec<_>>().join("; ")
}

/// Explains every case over one build, which stays as it is. A build in a fresh store, with a shared cache, runs the steps that
/// the explanation names, and another secret and another content of the cache mount change nothing.
fn check(cases: &[Case]) {
    let env = TestEnv::with_busybox();
    let shared = env.dir().join("shared");
    let (to, from) =
        (format!("type=local,dest={},mode=max", shared.display()), format!("type=local,src={}", shared.display()));
    write(env.dir(), "secret", "one");
    write(env.dir(), "other", "two");
    let secret = |name: &str| format!("id=s,src={}", env.dir().join(name).display());
    let context = env.context(CONTEXT);
    env.build(&["-t", "app", "--cache-to", &to, "--secret", &secret("secret")], &context).ok();
    for (what, change, args, want) in cases {
        fs::remove_dir_all(&context).expect("remove");
        fs::create_dir(&context).expect("create");
        env.add(&context, CONTEXT);
        change(&context);
        let explained = |env: &TestEnv, more: &[&str]| {
            let dir = [context.to_str().expect("UTF-8")];
            env.kiln(&[&["cache", "explain"], *args, more, &dir].concat()).ok()
        };
        let told = explained(&env, &[]);
        assert_eq!(shortened(&told.stdout), *want, "{what}:\n{}", told.stdout);
        assert_eq!(explained(&env, &[]).stdout, told.stdout, "{what}: asking changes nothing");
        let fresh = TestEnv::with_busybox();
        let far = explained(&fresh, &["--cache-from", &from]);
        let built =
            fresh.build(&[*args, &["--cache-from", &from, "--secret", &secret("other")]].concat(), &context).ok();
        let ran: Vec<&str> = built.progress().ran().into_iter().map(short).collect();
        let named = |text: &str, may: bool| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with("RUNS") || (may && line.starts_with("DEPENDS")));
            lines.filter_map(|line| line.split_once("] ")).map(|(_, name)| short(name).to_owned()).collect()
        };
        for (text, may) in [(&told.stdout, true), (&far.stdout, true)] {
            let mut named = named(text, may);
            named.sort_unstable();
            let mut ran = ran.clone();
            ran.sort_unstable();
            assert_eq!(named, ran, "{what}:\n{text}\n{built}");
        }
        fresh.assert_swept();
    }
    env.assert_swept();
}

#[test]
fn explain_says_nothing_runs_after_changes_without_effect() {
    requires!(userns, overlay);
    check(&ALL_CACHED);
}

#[test]
fn explain_names_files_with_old_and_new_attributes() {
    requires!(userns, overlay);
    check(&FILES);
}

#[test]
fn explain_names_instructions_and_the_steps_that_follow() {
    requires!(userns, overlay);
    check(&INSTRUCTIONS);
}

#[test]
fn explain_takes_the_options_of_build() {
    requires!(userns, overlay);
    for env in each_user() {
        env.import("busybox");
        let context = env.context(
            "
-- Other --
FROM busybox AS one
ARG A=1
RUN echo $A
FROM one AS two
COPY --from=more f /
RUN --security=insecure true
-- more/f --
f
",
        );
        let (file, more) = (context.join("Other"), format!("more={}", context.join("more").display()));
        let options = ["--file", file.to_str().expect("UTF-8"), "--build-context", &more];
        let explain = |args: &[&str]| {
            let dir = [context.to_str().expect("UTF-8")];
            env.kiln(&[&["cache", "explain", "--pull=never"], &options[..], args, &dir].concat())
        };
        explain(&[]).fails(1).says("security.insecure");
        let all = &["--allow", "security.insecure"];
        explain(all).ok().says("3 of 4 steps would run");
        explain(&["--target", "one"]).ok().says("1 of 2 steps would run");
        env.build(&[&options[..], &["--target", "one"]].concat(), &context).ok();
        explain(&["--target", "one"]).ok().says("0 of 2 steps would run");
        explain(&["--target", "one", "--platform", "linux/s390x"]).ok().says("  platform changed\n");
        explain(&["--target", "one", "--build-arg", "A=2"]).ok().says("  build argument A changed\n");
        explain(all).ok().says("2 of 4 steps would run").says("  not built before\n");
        let one = |args: &[&str]| explain(&[&["--target", "one"], args].concat());
        one(&["--no-cache"]).ok().says("1 of 2 steps would run").says("  cache not used\n");
        one(&["--no-cache-filter", "one"]).ok().says("1 of 2 steps would run").says("  cache not used\n");
        for (mode, runs) in [("default", 0), ("private", 0), ("host", 1), ("none", 1)] {
            one(&["--network", mode]).ok().says(&format!("{runs} of 2 steps would run"));
        }
        one(&["--max-age", "RUN*=1h"]).ok().says("0 of 2 steps would run");
        std::thread::sleep(Duration::from_secs(3));
        one(&["--max-age", "RUN*=1s"]).ok().says("1 of 2 steps would run").says("s old (--max-age 1s)\n");
        // A layer is compressed again, which runs nothing.
        for kind in ["gzip", "zstd", "uncompressed"] {
            one(&["--compression", kind]).ok().says("0 of 2 steps would run");
        }
        let token = context.join("token");
        fs::write(&token, "x").expect("write");
        one(&["--secret", &format!("id=s,src={}", token.display())]).ok().says("0 of 2 steps would run");
        one(&["--secret", "id=s,src=/no/such/file"]).fails(2).says("/no/such/file");
        env.assert_swept();
    }
}

#[test]
fn explain_names_files_of_named_contexts() {
    requires!(userns, overlay);
    for env in each_user() {
        env.import("busybox");
        let context = env.context(
            "
-- Dockerfile --
FROM more AS all
FROM busybox
RUN --mount=from=more,target=/m cat /m/f
RUN --mount=from=more,source=sub,target=/s cat /s/g
COPY --from=all /f /
-- more/f --
f
-- more/sub/g --
g
",
        );
        let (dir, more) = (context.to_str().expect("UTF-8"), format!("more={}", context.join("more").display()));
        let explain = || env.kiln(&["cache", "explain", "--build-context", &more, dir]).ok();
        env.build(&["--build-context", &more], &context).ok();
        explain().says("0 of 5 steps would run");
        write(&context, "more/f", "other\n");
        let done = explain();
        done.says("  files of mount /m changed\n    f: content ");
        done.says("  the files of the context changed\n    f: content ");
        assert!(!done.stdout.contains("files of mount /s changed"), "{done}");
        let built = env.build(&["--build-context", &more], &context).ok();
        built.says("files of mount /m changed: f");
        built.says("the files of the context changed: f");
        explain().says("0 of 5 steps would run");
        // What was last is compared with, also after a build that found everything.
        write(&context, "more/f", "f\n");
        env.build(&["--build-context", &more], &context).ok();
        fs::write(context.join("more/added"), "new").expect("write");
        explain().says("    added was added\n");
        env.assert_swept();
    }
}

#[test]
fn explain_says_where_it_looked() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN echo one\nRUN echo two\n");
    let place = env.dir().join("shared");
    let (to, from) = (format!("type=local,dest={}", place.display()), format!("type=local,src={}", place.display()));
    env.build(&["--cache-to", &to], &context).ok();
    let (dir, fresh) = (context.to_str().expect("UTF-8"), TestEnv::with_busybox());
    let explain = || fresh.kiln(&["cache", "explain", "--cache-from", &from, dir]).ok();
    explain().says("RUN echo two (in directory ").says("0 of 3 steps would run");
    edit(&context, "echo two", "echo three");
    let absent = format!("not in directory {}", place.display());
    explain()
        .says("RUN echo one (in directory ")
        .says(&format!("  not built before\n  {absent}\n1 of 3 steps would run"));
    let built = fresh.build(&["--cache-from", &from], &context).ok();
    assert_eq!(built.progress().why("echo three"), format!("not built before, and {absent}"));
    // A first build with an empty cache names it, too.
    fs::remove_dir_all(&place).expect("remove");
    let built = TestEnv::with_busybox().build(&["--cache-from", &from], &context).ok();
    assert_eq!(built.progress().why("echo one"), format!("not built before, and {absent}"));
}

#[test]
fn explain_prints_json() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nARG KEY\nCOPY a /\nRUN true\n-- a --\na\n");
    env.build(&["--build-arg", "KEY=hunter2"], &context).ok();
    write(&context, "a", "other\n");
    let dir = context.to_str().expect("UTF-8");
    let told = env.kiln(&["cache", "explain", "--format", "json", "--build-arg", "KEY=hunter3", dir]).ok();
    told.never_says("hunter");
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let verdicts: Vec<&Value> = told["steps"].as_array().expect("a list").iter().map(|s| &s["verdict"]).collect();
    assert_eq!(verdicts, ["cached", "runs", "runs"]);
    let file = &told["steps"][1]["reasons"][0]["files"][0];
    assert_eq!((&file["path"], &file["change"]), (&"a".into(), &"changed".into()), "{told}");
    let attribute = &file["attributes"][0];
    assert_eq!((&attribute["attribute"], &attribute["new"]), (&"content".into(), &"7e4fa2eb8c7a".into()), "{told}");
    let reasons = told["steps"][2]["reasons"].as_array().expect("a list");
    assert_eq!(reasons[0]["part"], "build argument KEY", "{told}");
    assert_eq!((&reasons[1]["kind"], &reasons[1]["step"]), (&"step".into(), &1.into()), "{told}");
    let text = env.kiln(&["cache", "explain", "--format", "text", dir]).ok();
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
}

#[test]
fn explain_names_a_changed_base() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
    env.build(&["-t", "app"], &context).ok();
    let base = env.context("-- Dockerfile --\nFROM busybox\nRUN echo new > /etc/new\n");
    env.build(&["-t", "busybox"], &base).ok();
    let told = env.kiln(&["cache", "explain", context.to_str().expect("UTF-8")]).ok();
    told.says("RUNS    [2/2] RUN true\n  parent step changed\n1 of 2 steps would run");
}
