//! However layers become a root, the layer that comes out is the same (design §6).

use std::fs;
use std::path::Path;

use crate::support::{TestEnv, Tree};

/// Everything a command can do to files that layers below have: with the clock taken out. But for one thing: if a file of
/// a layer below has several names and is changed under one, overlayfs leaves the others as they were, and a copy does
/// not.
const DOCKERFILE: &str = r#"-- Dockerfile --
FROM busybox
ADD base.tar /b
RUN cd /b && rm gone && rm -r dir-gone && rm -r again && mkdir again && echo new > again/new \
    && rm to-dir && mkdir to-dir && echo x > to-dir/x && rm -r to-file && echo file > to-file \
    && rm to-link && ln -s /etc to-link && rm -r dir-to-link && ln -s deep dir-to-link \
    && ln owned third && chmod 600 attrs && chown 7:8 owned && mv moved moved-to && mkfifo pipe \
    && mkdir -p empty/empty deep/er && chmod 3777 empty && echo same > rewritten && mv deep/a deep/b \
    && find /b -exec touch -h -d @1000 {} +
RUN cd /b && rm again/new && rm -r to-dir && echo z > to-dir && rm third && ln owned owned-2 && chmod 1777 deep \
    && find /b -exec touch -h -d @2000 {} +
RUN rm -r /b && mkdir -p /b/deep && echo back > /b/deep/a && find /b -exec touch -h -d @3000 {} +
RUN true
"#;

fn archive(path: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(path).expect("create"));
    let mut add = |kind: tar::EntryType, name: &str, link: &str, content: &[u8], xattr: Option<(&str, &[u8])>| {
        if let Some(xattr) = xattr {
            tar.append_pax_extensions([xattr]).expect("append");
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(3);
        header.set_gid(4);
        header.set_mtime(500);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            tar.append_data(&mut header, name, content).expect("append");
        } else {
            tar.append_link(&mut header, name, link).expect("append");
        }
    };
    use tar::EntryType as Type;
    for dir in ["dir-gone", "dir-gone/sub", "again", "again/sub", "to-file", "dir-to-link", "deep"] {
        add(Type::Directory, dir, "", b"", None);
    }
    for file in ["gone", "dir-gone/f", "dir-gone/sub/f", "again/old", "again/sub/f", "to-dir", "to-file/f", "to-link"] {
        add(Type::Regular, file, "", file.as_bytes(), None);
    }
    for file in ["dir-to-link/f", "one", "owned", "moved", "deep/a", "deep/kept", "stamp"] {
        add(Type::Regular, file, "", file.as_bytes(), None);
    }
    add(Type::Regular, "rewritten", "", b"same\n", None);
    add(Type::Regular, "attrs", "", b"x", Some(("SCHILY.xattr.user.kept", b"by chmod")));
    tar.finish().expect("archive");
}

/// The diff-ids of every layer but the base's and the archive's, and what they hold.
fn layers(env: &TestEnv, context: &Path, how: &str) -> (Vec<String>, Vec<Tree>) {
    env.build(&["-t", "app", "--no-cache", "--snapshotter", how], context).ok().never_says("instead of stacked");
    let image = env.image("app");
    let ids = image.diff_ids().iter().map(|id| (*id).to_owned()).collect();
    (ids, (0..image.layers.len()).map(|i| image.layer_tree(i)).collect())
}

#[test]
fn stacked_or_copied_as_root_or_not_the_layers_are_the_same() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(DOCKERFILE);
    archive(&context.join("base.tar"));
    let (ids, trees) = layers(&env, &context, "overlay");
    // The base, ADD and four RUNs, of which the last did nothing.
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert_eq!(trees[2]["b/attrs"].xattrs["user.kept"], "62792063686d6f64");
    // A directory made again shows nothing of the old one.
    assert!(trees[2].has("b/again/old") && trees[2].has("b/again/sub"), "{:?}", trees[2].names());
    assert!(trees[5].0.is_empty(), "{:?}", trees[5].names());
    let copied = layers(&env, &context, "copy");
    for (at, tree) in copied.1.iter().enumerate() {
        tree.assert_same(&trees[at]);
    }
    assert_eq!(copied.0, ids);
    env.assert_swept();
    if crate::support::requires::is_root() && crate::support::requires::have("kiln_test") {
        let user = TestEnv::of_plain_user();
        user.import("busybox");
        let context = user.context(DOCKERFILE);
        archive(&context.join("base.tar"));
        for how in ["overlay", "copy", "auto"] {
            let theirs = layers(&user, &context, how);
            for (at, tree) in theirs.1.iter().enumerate() {
                tree.assert_same(&trees[at]);
            }
            assert_eq!(theirs.0, ids, "{how}");
        }
        user.assert_swept();
    }
}

#[test]
fn a_snapshotter_that_is_none_is_a_mistake() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\n");
    env.build(&["--snapshotter", "btrfs"], &context).fails(2).says("overlay");
}
