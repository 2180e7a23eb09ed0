//! Test that the bytes of a layer depend on its content only.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::TestEnv;

/// Many kinds of changes, with fixed times.
const DOCKERFILE: &str = "-- Dockerfile --
FROM busybox
WORKDIR /work
COPY --chown=7:8 tree /copied
RUN mkdir -p /z/d/e && cd /z && echo a > a && ln a b && ln -s a l && mkfifo p && chmod 6755 a && chown 1234:2345 d/e \\
    && echo deep > d/e/f && echo x > /copied/new && rm /copied/sub/gone && rm -r /copied/old && mkdir /copied/old \\
    && chown -h 9:9 l && find /z /copied -exec touch -h -d @1000000 {} + && touch -d @1000000 /work
RUN rm /z/b && mv /z/a /z/c && touch -d @5 /z
-- tree/sub/gone --
1
-- tree/sub/kept --
2
-- tree/old/x --
3
";

fn layers(env: &TestEnv, context: &Path) -> Vec<String> {
    env.build(&["-t", "app"], context).ok();
    let image = env.image("app");
    let blobs = image.manifest["layers"].as_array().expect("layers").iter();
    blobs.map(|layer| layer["digest"].as_str().expect("digest").to_owned()).collect()
}

#[test]
fn root_and_plain_user_make_identical_layers() {
    requires!(root, kiln_test, userns, overlay);
    let (env, user) = (TestEnv::with_busybox(), TestEnv::of_plain_user());
    user.import("busybox");
    // Both build the same context, because copied files keep their times.
    let context = user.context(DOCKERFILE);
    assert_eq!(layers(&user, &context), layers(&env, &context));
}

/// Creates the files in the given order; tmpfs lists them in that order.
fn tree(names: &[String]) -> PathBuf {
    let dir = tempfile::Builder::new().prefix("kiln-order-").tempdir_in("/dev/shm").expect("tempdir").keep();
    for name in names {
        fs::create_dir_all(dir.join(name)).expect("create");
        fs::write(dir.join(name).join("file"), name).expect("write");
    }
    fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY . /\n").expect("write");
    dir
}

#[test]
fn directory_listing_order_does_not_change_layer() {
    let env = TestEnv::new();
    let mut names: Vec<String> = (0..60).map(|i| format!("d{}", i * 7919 % 101)).collect();
    let first = tree(&names);
    names.reverse();
    let second = tree(&names);
    let list =
        |dir: &Path| -> Vec<_> { fs::read_dir(dir).expect("list").map(|e| e.expect("entry").file_name()).collect() };
    assert_ne!(list(&first), list(&second), "this file system sorts: the test shows nothing");
    // Copied files keep their times, so set them all to the same.
    for dir in [&first, &second] {
        let status =
            std::process::Command::new("find").arg(dir).args(["-exec", "touch", "-d", "@9", "{}", "+"]).status();
        assert!(status.expect("find").success());
    }
    let layers = [&first, &second].map(|dir| layers(&env, dir));
    for dir in [first, second] {
        fs::remove_dir_all(dir).expect("remove");
    }
    assert_eq!(layers[0], layers[1]);
}
