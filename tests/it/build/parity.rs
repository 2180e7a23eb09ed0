//! Test that root and a plain user make the same layers. Runs as root, which can become the plain user.

use std::path::PathBuf;

use crate::support::{Image, TestEnv};

use super::seen;

/// Builds what `context` writes as root and as the plain user, each in its own store.
fn both(base: &str, context: impl Fn(&TestEnv) -> PathBuf) -> [(Image, TestEnv); 2] {
    [TestEnv::new(), TestEnv::of_plain_user()].map(|env| {
        env.import(base);
        env.build(&["-t", "app"], &context(&env)).ok();
        env.assert_swept();
        (env.image("app"), env)
    })
}

#[test]
fn run_layers_are_the_same_for_root_and_plain_user() {
    requires!(root, kiln_test, userns, overlay);
    let more = "
RUN groupadd -g 900 team && useradd -m -u 901 -g team -G audio member
USER member
WORKDIR /home/member/here
RUN id > who && umask 027 && mkdir -p a/b && echo x > a/b/c && ln a/b/c a/d
";
    let [(root, _root), (plain, _plain)] = both("python", |env| seen::context(env, more));
    assert_eq!(root.layers.len(), plain.layers.len());
    for i in 0..root.layers.len() {
        root.layer_tree(i).without_times().assert_same(&plain.layer_tree(i).without_times());
    }
    assert_eq!(root.config["config"], plain.config["config"]);
    assert_eq!(root.tree()["home/member/here/a/b/c"].mode, 0o640);
    assert_eq!(root.content("home/member/here/who"), plain.content("home/member/here/who"));
}

#[test]
fn copy_layers_are_the_same_for_root_and_plain_user() {
    requires!(root, kiln_test, userns, overlay);
    let text = "
-- Dockerfile --
FROM busybox AS one
COPY --chown=app:extra tree /tree
WORKDIR /made
FROM busybox
COPY --from=one --chmod=0711 /tree /moved
COPY --chown=4000000000:70000 tree /numbers
COPY tree /plain
-- tree/a 0755 --
a
-- tree/b/c 0600 --
c
-- tree/link -> a --
-- tree/d = tree/a --
";
    let [(root, _root), (plain, _plain)] = both("busybox", |env| env.context(text));
    // Copied files keep their times, which differ between the two contexts.
    for i in 0..root.layers.len() {
        root.layer_tree(i).without_times().assert_same(&plain.layer_tree(i).without_times());
    }
    let tree = plain.tree();
    assert_eq!((tree["numbers/a"].uid, tree["numbers/a"].gid), (4_000_000_000, 70_000), "ids no host could give");
    assert_eq!((tree["moved/a"].uid, tree["moved/a"].gid, tree["moved/a"].mode), (1000, 1500, 0o711));
}
