//! Test which steps run again after a change, which stay cached, and which reason kiln reports.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Progress, TestEnv};

const CONTEXT: &str = "
-- Dockerfile --
FROM busybox AS tool
RUN echo tool > /tool

FROM busybox
ENV COLOUR=blue
WORKDIR /app
COPY first.txt ./
RUN cat first.txt > first.out
ARG VERSION=1
RUN echo $VERSION > version
COPY src/ src/
RUN cat src/* > all
COPY --from=tool /tool /usr/bin/
CMD [\"cat\", \"all\"]
-- first.txt --
first
-- src/a --
a
-- src/b --
b
-- notes.md --
nothing copies this
-- .dockerignore --
**/*.log
";

const TOOL: &str = "RUN echo tool > /tool";
const WORKDIR: &str = "WORKDIR /app";
const FIRST: &str = "COPY first.txt ./";
const FIRST_OUT: &str = "RUN cat first.txt > first.out";
const VERSION: &str = "RUN echo $VERSION > version";
const SRC: &str = "COPY src/ src/";
const ALL: &str = "RUN cat src/* > all";
const FROM_TOOL: &str = "COPY --from=tool /tool /usr/bin/";

/// Builds [`CONTEXT`], applies `change`, and builds again with `args`. Returns the progress of the second build. A build in a
/// fresh store, with what the first one wrote to a shared cache, runs the same steps; and those over a step that runs again
/// with an equal result, which only the store can tell.
fn after(change: impl FnOnce(&Path), args: &[&str]) -> Progress {
    let env = TestEnv::with_busybox();
    let context = env.context(CONTEXT);
    let shared = env.dir().join("shared");
    let to = format!("type=local,dest={},mode=max", shared.display());
    env.build(&["-t", "app", "--cache-to", &to], &context).ok();
    change(&context);
    let all: Vec<&str> = ["-t", "app"].iter().chain(args).copied().collect();
    let progress = env.build(&all, &context).ok().progress();
    env.assert_swept();
    let (fresh, from) = (TestEnv::with_busybox(), format!("type=local,src={}", shared.display()));
    let all: Vec<&str> = all.into_iter().chain(["--cache-from", &from]).collect();
    let shared = fresh.build(&all, &context).ok().progress();
    assert!(shared.ran().is_superset(&progress.ran()), "with a shared cache: {shared:?}");
    assert_eq!(shared.ran().is_empty(), progress.ran().is_empty(), "with a shared cache: {shared:?}");
    fresh.assert_swept();
    progress
}

fn none() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

fn replace(context: &Path, old: &str, new: &str) {
    let file = context.join("Dockerfile");
    let text = fs::read_to_string(&file).expect("read");
    assert!(text.contains(old), "{old}");
    fs::write(file, text.replace(old, new)).expect("write");
}

#[test]
fn identical_build_is_fully_cached_with_same_digest() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(CONTEXT);
    let first = env.build(&["-t", "app"], &context).ok().progress();
    assert_eq!(first.ran(), BTreeSet::from([FIRST, FIRST_OUT, VERSION, SRC, ALL, FROM_TOOL, TOOL, WORKDIR]));
    assert!(first.0.iter().filter_map(|s| s.why.as_deref()).all(|why| why == "not built before"), "{first:?}");
    let image = env.image("app");

    let second = env.build(&["-t", "again"], &context).ok().progress();
    assert_eq!(second.ran(), none());
    assert_eq!(env.image("again").digest, image.digest);
    assert_eq!(env.image("app").digest, image.digest);

    // The directory and file times are not part of the input.
    let copy = env.context(CONTEXT);
    assert_eq!(env.build(&["-t", "third"], &copy).ok().progress().ran(), none());
    assert_eq!(env.image("third").digest, image.digest);
    env.assert_swept();
}

#[test]
fn irrelevant_changes_rerun_nothing() {
    requires!(userns, overlay);
    type Change = fn(&Path);
    let unchanged: [(&str, Change); 6] = [
        ("a file that is copied nowhere", |c| fs::write(c.join("notes.md"), "other").expect("write")),
        ("a file that is ignored", |c| fs::write(c.join("src/x.log"), "x").expect("write")),
        ("a time", |c| {
            let file = fs::File::options().append(true).open(c.join("src/a")).expect("open");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).expect("touch");
        }),
        ("a file replaced by itself", |c| {
            fs::remove_file(c.join("first.txt")).expect("remove");
            fs::write(c.join("first.txt"), "first\n").expect("write");
        }),
        ("comments and blank lines", |c| replace(c, "WORKDIR", "\n# where it lives\n\nWORKDIR")),
        ("an instruction without a layer", |c| replace(c, "CMD [\"cat\", \"all\"]", "CMD [\"cat\", \"version\"]")),
    ];
    for (what, change) in unchanged {
        assert_eq!(after(change, &[]).ran(), none(), "{what}");
    }
    assert_eq!(after(|_| {}, &["--build-arg", "VERSION=1"]).ran(), none(), "an argument given as it was");
    assert_eq!(after(|_| {}, &["--label", "a=b"]).ran(), none(), "a label");
}

#[test]
fn changed_file_reruns_its_copy_and_later_steps() {
    requires!(userns, overlay);
    let told = after(|c| fs::write(c.join("src/b"), "other\n").expect("write"), &[]);
    assert_eq!(told.ran(), BTreeSet::from([SRC, ALL, FROM_TOOL]));
    assert!(told.why(SRC).contains("files"), "{told:?}");
    assert_eq!(told.why(ALL), "parent step changed");

    let mode = after(|c| fs::set_permissions(c.join("src/a"), PermissionsExt::from_mode(0o600)).expect("chmod"), &[]);
    assert_eq!(mode.ran(), BTreeSet::from([SRC, ALL, FROM_TOOL]), "C-29: the mode counts");
    let name = after(|c| fs::rename(c.join("src/a"), c.join("src/c")).expect("rename"), &[]);
    assert_eq!(name.ran(), BTreeSet::from([SRC, ALL, FROM_TOOL]), "C-29: the name counts");
    let gone = after(|c| fs::remove_file(c.join("src/a")).expect("remove"), &[]);
    assert_eq!(gone.ran(), BTreeSet::from([SRC, ALL, FROM_TOOL]));
}

#[test]
fn changed_argument_reruns_steps_after_its_declaration() {
    requires!(userns, overlay);
    let told = after(|_| {}, &["--build-arg", "VERSION=2"]);
    assert_eq!(told.ran(), BTreeSet::from([VERSION, SRC, ALL, FROM_TOOL]));
    assert_eq!(told.why(VERSION), "build argument VERSION changed");
    assert_eq!(told.why(SRC), "parent step changed");
}

#[test]
fn changed_variable_reruns_later_runs_and_is_named() {
    requires!(userns, overlay);
    let told = after(|c| replace(c, "COLOUR=blue", "COLOUR=red"), &[]);
    assert_eq!(told.why(FIRST_OUT), "variable COLOUR changed");
    assert!(told.cached().contains(&TOOL), "another stage does not see it: {told:?}");
}

#[test]
fn changed_command_is_reported_as_reason() {
    requires!(userns, overlay);
    let told = after(|c| replace(c, "RUN cat first.txt > first.out", "RUN cat first.txt > other.out"), &[]);
    assert_eq!(told.why("RUN cat first.txt > other.out"), "the command changed");
    assert!(told.cached().contains(&FIRST), "{told:?}");
    assert_eq!(told.why(VERSION), "parent step changed");
}

#[test]
fn stage_with_unchanged_output_invalidates_nothing() {
    requires!(userns, overlay);
    let told = after(|c| replace(c, "RUN echo tool > /tool", "RUN echo other > /x && echo tool > /tool"), &[]);
    assert_eq!(
        told.ran(),
        BTreeSet::from(["RUN echo other > /x && echo tool > /tool"]),
        "the key of COPY --from covers only the selected files (C-29)"
    );
    let told = after(|c| replace(c, "RUN echo tool > /tool", "RUN echo new > /tool"), &[]);
    assert_eq!(told.ran(), BTreeSet::from([FROM_TOOL, "RUN echo new > /tool"]));
}

#[test]
fn changed_base_reruns_all_steps() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(CONTEXT);
    env.build(&["-t", "app"], &context).ok();
    let base = env.context("-- Dockerfile --\nFROM busybox\nRUN echo new > /etc/new\n");
    env.build(&["-t", "busybox"], &base).ok();
    let told = env.build(&["-t", "app"], &context).ok().progress();
    assert_eq!(told.ran().len(), 8, "{told:?}");
    assert_eq!(told.why(TOOL), "parent step changed");
}

#[test]
fn no_cache_reruns_all_steps_and_says_why() {
    requires!(userns, overlay);
    let told = after(|_| {}, &["--no-cache"]);
    assert_eq!(told.ran().len(), 8, "{told:?}");
    assert_eq!(told.why(ALL), "cache not used");
}

#[test]
fn failed_build_keeps_its_finished_steps_cached() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN echo one > /one\nRUN test -e /two\n");
    env.build(&["-t", "app"], &context).fails(1);
    env.assert_swept();
    replace(&context, "RUN test -e /two", "RUN test -e /one");
    let told = env.build(&["-t", "app"], &context).ok().progress();
    assert_eq!(told.ran(), BTreeSet::from(["RUN test -e /one"]));
    assert!(told.cached().contains(&"RUN echo one > /one"), "{told:?}");
}

#[test]
fn unchanged_files_make_empty_layer_over_fresh_or_stored() {
    // R-14, A20: with a fixed SOURCE_DATE_EPOCH, the files below are newer on disk than in their layer.
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox
RUN mkdir -p /d/e && ln -s d /link && head -c 3000000 /dev/urandom > /d/big
RUN chown 0:0 /d/big /d && chmod 644 /d/big
COPY file /link/e/
RUN true
-- file --
text
",
    );
    let args = ["-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=86400"];
    let fresh = {
        env.build(&args, &context).ok();
        env.image("app")
    };
    fresh.skopeo_check();
    let names = |layer: usize| fresh.layer_tree(layer).names().iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let last = fresh.diff_ids().len() - 1;
    assert_eq!(names(last), [""; 0]);
    assert_eq!(names(last - 1), ["d", "d/e", "d/e/file"]);
    assert_eq!(names(last - 2), [""; 0]);
    // This time, the layer below comes from the store.
    let text = fs::read_to_string(context.join("Dockerfile")).unwrap();
    fs::write(context.join("Dockerfile"), text.replace("&& chmod 644", "&& chmod 0644")).unwrap();
    env.build(&args, &context).ok();
    assert_eq!(env.image("app").diff_ids(), fresh.diff_ids());
}

#[test]
fn different_argument_boundaries_have_different_keys() {
    // S-136
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let files = "-- a --\n-- bc --\n-- ab --\n-- c --\n";
    for (one, other) in [
        ("RUN [\"echo\", \"a\", \"bc\"]", "RUN [\"echo\", \"ab\", \"c\"]"),
        ("RUN [\"echo\", \"a\", \"\"]", "RUN [\"echo\", \"\", \"a\"]"),
        ("RUN [\"echo\", \"a b\"]", "RUN [\"echo\", \"a\", \"b\"]"),
        ("ENV A=b C=d\nRUN env", "ENV A=\"b C=d\"\nRUN env"),
        ("ENV AB=C\nRUN env", "ENV A=BC\nRUN env"),
        ("ARG A=b\nRUN env", "ENV A=b\nRUN env"),
        ("COPY a bc /x/", "COPY ab c /x/"),
        ("RUN --mount=type=cache,id=a,target=/bc true", "RUN --mount=type=cache,id=ab,target=/c true"),
        ("USER 1:23\nRUN id", "USER 12:3\nRUN id"),
    ] {
        let last = |lines: &str| lines.lines().last().expect("a line").to_owned();
        let build = |lines: &str| {
            env.build(&[], &env.context(&format!("-- Dockerfile --\nFROM busybox\n{lines}\n{files}"))).ok()
        };
        build(one);
        let done = build(other);
        assert!(done.progress().ran().contains(last(other).as_str()), "{one} is taken for {other}: {done}");
        assert!(build(other).progress().ran().is_empty(), "{other}");
    }
}
