//! Test images that contain the same layer more than once (N-1): built, pulled, stacked and copied.

use std::path::Path;

use super::member;
use crate::support::env::each_user;
use crate::support::{Registry, TestEnv, layout};

/// Lists the files of [`image`] and [`OWN`], without size and link count of directories, which depend on the file
/// system.
const LIST: &str = "cd / && find d e f l x* -type d -exec stat -c '%n %F %a %u:%g' {} + -o \
                    -exec stat -c '%n %F %a %u:%g %s %h' {} + 2> /dev/null | sort";

/// Commands that make equal layers, with deletions between them.
const OWN: &str = r#"COPY f /x
COPY f /x
RUN rm -rf d
RUN cat /x > /dev/null
RUN true
RUN true
RUN mkdir -m 750 d && echo 1 > d/a && touch -d @5 d/a d
RUN rm d/a && touch -d @5 d
RUN rm -r d
RUN mkdir -m 750 d && echo 1 > d/a && touch -d @5 d/a d
COPY f /x
"#;

fn dir(name: &str, owner: (u32, u32)) -> Vec<u8> {
    member(owner, b'5', name, "", b"")
}

fn file(name: &str) -> Vec<u8> {
    member((3, 4), b'0', name, "", name.as_bytes())
}

/// Writes a layout with equal layers around whiteouts, opaque directories, an implicit directory and empty layers.
fn image(at: &Path) {
    let tar = |members: &[Vec<u8>]| [&members.concat()[..], &layout::EMPTY].concat();
    let empty = layout::EMPTY.to_vec();
    let files = tar(&[
        dir("d", (1, 2)),
        file("d/gone"),
        file("d/kept"),
        member((3, 4), b'1', "d/linked", "d/kept", b""),
        file("e/deep/in"),
        dir("f", (5, 6)),
        file("f/.wh..wh..opq"),
        file("f/a"),
        member((0, 0), b'2', "l", "d", b""),
    ]);
    let deletes = tar(&[file("d/.wh.gone"), dir("e", (7, 8)), file("e/.wh.deep"), dir("f", (9, 9)), file("f/b")]);
    let all_gone = tar(&[file(".wh.d"), file(".wh.e"), file("f/.wh..wh..opq"), file("f/c"), file("l/over")]);
    let layers = [&empty, &files, &empty, &deletes, &files, &all_gone, &deletes, &files, &empty, &deletes];
    layout::write(at, &layers.map(|layer| &layer[..]));
}

/// The files that `kiln run IMAGE` sees.
fn seen(env: &TestEnv, image: &str, how: &[&str]) -> String {
    let args = [&["run"][..], how, &[image, "sh", "-c", LIST]].concat();
    env.kiln(&args).ok().stdout.clone()
}

/// Builds `dockerfile` as `app`; returns its diff-ids and the list that a command wrote.
fn built(env: &TestEnv, dockerfile: &str, how: &str) -> (Vec<String>, Vec<u8>) {
    let context = env.context(&format!("-- Dockerfile --\n{dockerfile}-- f --\nsame\n"));
    let args = ["-t", "app", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000", "--snapshotter", how];
    env.build(&args, &context).ok().never_says("instead of");
    let image = env.image("app");
    (image.diff_ids().iter().map(|id| (*id).to_owned()).collect(), image.content("list"))
}

#[test]
fn equal_layers_of_pulled_image_stack_as_they_copy() {
    requires!(userns, overlay, skopeo, docker_registry);
    let at = crate::support::dir::Dir::new();
    image(at.path());
    let registry = Registry::start();
    let name = registry.push_layout(at.path(), "x:1", "repeats:1");
    let mut all = Vec::new();
    for env in each_user() {
        // As a base, as a mount, and as the base of further layers.
        let dockerfile = format!(
            "FROM {name} AS base\nRUN {LIST} > /list\nFROM base\nRUN true\nRUN true\n\
             RUN --mount=from={name},target=/m --mount=from=base,target=/n,rw rm -r /n/d && touch /n/new && cat /n/f/b > /dev/null && [ -f /m/d/kept ] && [ ! -e /m/d/gone ]\n\
             RUN --mount=from=base,target=/n cd /n && [ -f d/kept ] && [ ! -e new ] && ls d e f > /there\n"
        );
        for how in ["overlay", "copy"] {
            all.push(built(&env, &dockerfile, how));
        }
        let seen = ["overlay", "copy"].map(|how| seen(&env, &name, &["--snapshotter", how]));
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0].as_bytes(), all[0].1);
        env.kiln(&["diff", &name, "app"]).ok().says("/there");
        env.assert_swept();
    }
    let list = String::from_utf8_lossy(&all[0].1).into_owned();
    for line in ["d directory 755 1:2", "d/kept regular file 755 3:4 6 2", "e directory 755 7:8", "f directory 755 9:9"]
    {
        assert!(list.lines().any(|l| l.starts_with(line)), "{line} in\n{list}");
    }
    assert!(["d/gone", "e/deep", "f/c"].iter().all(|name| !list.contains(name)), "{list}");
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
}

#[test]
fn build_can_repeat_equal_layers() {
    requires!(userns, overlay);
    let mut all = Vec::new();
    for env in each_user() {
        let dockerfile = format!("FROM busybox\n{OWN}RUN {LIST} > /list\n");
        for how in ["overlay", "copy"] {
            all.push(built(&env, &dockerfile, how));
            env.kiln(&["tag", "app", "base"]).ok();
            let ran = ["overlay", "copy"].map(|how| seen(&env, "base", &["--snapshotter", how]));
            assert_eq!(ran[0].as_bytes(), ran[1].as_bytes());
            assert_eq!(ran[0].as_bytes(), all[0].1);
            // Repeat the same layers on an image that has them, also without unpacked layers.
            let again = format!("FROM base\n{OWN}RUN {LIST} > /list2\nRUN --mount=from=base,target=/m [ -f /m/x ]\n");
            let context = env.context(&format!("-- Dockerfile --\n{again}-- f --\nsame\n"));
            std::fs::rename(env.store().join("layers"), env.dir().join(format!("old-{how}"))).expect("rename");
            env.build(&["--no-cache", "--snapshotter", how, "-t", "again"], &context).ok();
            assert_eq!(env.image("again").content("list2"), all[0].1);
        }
        env.kiln(&["run", "--commit", "kept", "again", "true"]).ok();
        env.kiln(&["run", "--commit", "kept", "kept", "true"]).ok();
        assert_eq!(seen(&env, "kept", &[]).as_bytes(), all[0].1);
        env.assert_swept();
    }
    let ids = &all[0].0;
    assert!(ids.len() == 13 && ids.iter().filter(|id| **id == ids[1]).count() == 3, "{ids:?}");
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
}
