//! However layers become a root, the layer that comes out is the same (design §6).

use std::fs;
use std::path::Path;

use crate::support::{TestEnv, Tree};

/// Everything a command can do to files that layers below have: with the clock taken out.
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

/// What is done in a directory with the directory `d`, where `a`, `b`, `c` and `sub/d` are one file, and what must have
/// come of it; overlayfs takes the name that is changed apart from the others.
const LINKS: &[(&str, &[&str])] = &[
    ("echo x > d/a", &["d", "d/a"]),
    ("echo x >> d/b", &["d", "d/b"]),
    ("echo x >> d/a; echo y >> d/b", &["d", "d/a", "d/b"]),
    ("truncate -s 0 d/a", &["d", "d/a"]),
    ("printf y | dd of=d/c conv=notrunc; touch -d @500 d/c", &["d", "d/c"]),
    ("chmod 600 d/b", &["d", "d/b"]),
    ("chown 5:6 d/b", &["d", "d/b"]),
    ("touch -d @700 d/a d/c", &["d", "d/a", "d/c"]),
    ("chmod 600 d/a; chmod 644 d/a", &[]),
    ("sed -i s/a/b/ d/a; touch -d @500 d", &["d", "d/a"]),
    ("cp -a d e", &["e", "e/a", "e/b", "e/c", "e/sub", "e/sub/d"]),
    ("chmod 600 d/a; cp -a d e", &["d", "d/a", "e", "e/a", "e/b", "e/c", "e/sub", "e/sub/d"]),
    ("ln d/a new", &["d", "d/a", "new"]),
    ("ln d/b new; ln d/c again", &["again", "d", "d/b", "d/c", "new"]),
    ("ln d/b new; rm d/b", &["d", "d/b", "new"]),
    ("ln d/b new; rm new", &[]),
    ("mv d/a d/z", &["d", "d/a", "d/z"]),
    ("mv d/a d/z; echo >> d/b", &["d", "d/a", "d/b", "d/z"]),
    ("mv d e", &["d", "e", "e/a", "e/b", "e/c", "e/sub", "e/sub/d"]),
    ("mv d/sub e", &["d", "d/sub", "e", "e/d"]),
    ("rm d/a", &["d", "d/a"]),
    ("rm d/a d/b; echo x > d/c", &["d", "d/a", "d/b", "d/c"]),
    ("echo x > d/a; rm d/a", &["d", "d/a"]),
    ("rm d/a; cp -a d e", &["d", "d/a", "e", "e/b", "e/c", "e/sub", "e/sub/d"]),
    ("echo n > n; mv n d/a", &["d", "d/a"]),
    ("rm -r d; mkdir d; echo x > d/a", &["d", "d/a", "d/b", "d/c", "d/sub"]),
    ("tar -cf t d/a d/b d/c", &["t"]),
    ("ls -l d/a d/c > l", &["l"]),
    ("test $(stat -c %h d/a) = 4 || exit 1; echo x > d/b; grep -q x d/c && exit 1; true", &["d", "d/b"]),
];

fn linked(path: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(path).expect("create"));
    for (name, link) in [("d/", ""), ("d/a", ""), ("d/b", "d/a"), ("d/c", "d/a"), ("d/sub/", ""), ("d/sub/d", "d/b")] {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(500);
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        match (name.ends_with('/'), link) {
            (true, _) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, name, &b""[..]).expect("append");
            }
            (false, "") => {
                header.set_size(5);
                tar.append_data(&mut header, name, &b"plain"[..]).expect("append");
            }
            (false, link) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, name, link).expect("append");
            }
        }
    }
    tar.finish().expect("archive");
}

fn links_of(env: &TestEnv, how: &str) -> (Vec<String>, Vec<Tree>, String) {
    let mut dockerfile = "-- Dockerfile --\nFROM busybox\n".to_owned();
    for (number, (command, _)) in LINKS.iter().enumerate() {
        dockerfile.push_str(&format!("ADD base.tar /l{number}\nRUN cd /l{number}; {command}\n"));
    }
    // What layers above hid still counts among a file's names.
    dockerfile.push_str("RUN ls -l /l20/d/b > /hidden\n");
    let context = env.context(&dockerfile);
    linked(&context.join("base.tar"));
    let args = ["-t", "app", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000", "--snapshotter", how];
    let said = env.build(&args, &context).ok().stderr.clone();
    let image = env.image("app");
    let ids = image.diff_ids().iter().map(|id| (*id).to_owned()).collect();
    (ids, (0..image.layers.len()).map(|i| image.layer_tree(i)).collect(), said)
}

#[test]
fn stacked_or_copied_files_of_layers_below_with_several_names_come_out_the_same() {
    // issue 4: same bytes, overlay or copy
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (ids, trees, said) = links_of(&env, "overlay");
    assert!(!said.contains("run again"), "{said}");
    let (copied_ids, copied, said) = links_of(&env, "copy");
    for (number, (command, want)) in LINKS.iter().enumerate() {
        // The base, then an ADD and a RUN each.
        let at = 2 + number * 2;
        let top = format!("l{number}/");
        let names: Vec<&str> = trees[at].names().into_iter().filter_map(|name| name.strip_prefix(&*top)).collect();
        assert_eq!(names, *want, "{command}");
        copied[at].assert_same(&trees[at]);
    }
    assert_eq!(copied_ids, ids);
    for (command, again) in [("l0; echo x > d/a", true), ("l12; ln d/a new", true), ("l20; rm d/a", false)] {
        assert_eq!(said.contains(&format!("RUN cd /{command} is run again")), again, "{command}: {said}");
    }
    env.assert_swept();
    if crate::support::requires::is_root() && crate::support::requires::have("kiln_test") {
        let user = TestEnv::of_plain_user();
        user.import("busybox");
        for how in ["overlay", "copy"] {
            let (theirs, _, _) = links_of(&user, how);
            assert_eq!(theirs, ids, "{how}");
        }
        user.assert_swept();
    }
}

#[test]
fn a_command_that_runs_again_finds_its_mounts_as_new_but_for_caches() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --
FROM busybox
ADD base.tar /
RUN --mount=type=tmpfs,target=/t --mount=type=secret,id=s --mount=type=cache,target=/c \\
    --mount=type=bind,rw,target=/context \\
    test ! -e /t/x && touch /t/x && test ! -e /context/x && touch /context/x && test ! -e /left && touch /left \\
    && grep -q hidden /run/secrets/s && echo ran >> /c/runs && echo x > /d/b
RUN --mount=type=cache,target=/c cat /c/runs > /runs
-- key --
hidden
",
    );
    linked(&context.join("base.tar"));
    let secret = format!("id=s,src={}", context.join("key").display());
    env.build(&["-t", "app", "--snapshotter", "copy", "--secret", &secret], &context).ok().says("is run again");
    let image = env.image("app");
    assert_eq!(image.layer_tree(2).names(), ["d", "d/b", "left"]);
    assert_eq!(image.content("runs"), b"ran\n".repeat(3));
    env.assert_swept();
}

#[test]
fn a_snapshotter_that_is_none_is_a_mistake() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\n");
    env.build(&["--snapshotter", "btrfs"], &context).fails(2).says("overlay");
}
