//! Test that the overlay and copy snapshotters give the same layers.

use std::fs;
use std::path::Path;

use crate::support::{TestEnv, Tree};

/// Many kinds of changes to files of lower layers, with fixed times.
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

/// The diff-ids and trees of all layers.
fn layers(env: &TestEnv, context: &Path, how: &str) -> (Vec<String>, Vec<Tree>) {
    env.build(&["-t", "app", "--no-cache", "--snapshotter", how], context).ok().never_says("instead of stacked");
    let image = env.image("app");
    let ids = image.diff_ids().iter().map(|id| (*id).to_owned()).collect();
    (ids, (0..image.layers.len()).map(|i| image.layer_tree(i)).collect())
}

#[test]
fn snapshotters_give_same_layers_for_every_user() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(DOCKERFILE);
    archive(&context.join("base.tar"));
    let (ids, trees) = layers(&env, &context, "overlay");
    // The base, ADD and four RUNs, the last of which changes nothing.
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert_eq!(trees[2]["b/attrs"].xattrs["user.kept"], "62792063686d6f64");
    // A directory that was removed and created again hides its old files.
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

/// Commands in a directory `d`, in which `a`, `b`, `c` and `sub/d` are hard links to one file, and the resulting
/// changes. Overlayfs copies up only the changed name, which breaks its link to the others.
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
    ("mv d/a d/b", &["d", "d/a"]),
    ("echo x > d/a; rm d/a d/b d/c d/sub/d", &["d", "d/a", "d/b", "d/c", "d/sub", "d/sub/d"]),
    ("ln d/a n; echo x >> n; rm d/?; stat -c %h n > l; rm n", &["d", "d/a", "d/b", "d/c", "l"]),
    (
        "cp -a d e; chmod 600 d/a; cp -a d f; chmod 644 d/a",
        &["e", "e/a", "e/b", "e/c", "e/sub", "e/sub/d", "f", "f/a", "f/b", "f/c", "f/sub", "f/sub/d"],
    ),
    ("rm d/a; find d -links 4 > l", &["d", "d/a", "l"]),
    (
        "cd d; echo x > ./sub/../a; cd sub; echo y > ../b; ln -s ../c s; echo z > s",
        &["d", "d/a", "d/b", "d/c", "d/sub", "d/sub/s"],
    ),
    ("mkdir m; mount --bind d m 2> /dev/null || chroot . /bin/true 2> /dev/null; rmdir m", &[]),
    ("mkdir n; mv n o; mv d/sub p; rm -r d; mkdir d; mv d q", &["d", "o", "p", "p/d", "q"]),
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
    // Names hidden by upper layers still count as links.
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
fn snapshotters_agree_on_hard_links_of_lower_layers() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (ids, trees, said) = links_of(&env, "overlay");
    assert!(!said.contains("being asked"), "{said}");
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
    assert!(!said.contains("being asked"), "{said}");
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

/// System calls that a shell does not make, each in its own directory with `a`, `b`, `c` and `sub/d` as above.
const PYTHON: &str = r#"
import os, ctypes, errno, sys

def ways():
    yield lambda: os.setxattr("a", "user.x", b"y")
    yield lambda: os.setxattr("b", "user.x", b"y", follow_symlinks=False)
    def descriptor():
        fd = os.open("a", os.O_RDONLY)
        os.read(fd, 2)
        os.fchmod(fd, 0o600)
        assert os.fstat(fd).st_mode & 0o777 == 0o600 and os.fstat(fd).st_nlink == 1
        assert os.read(fd, 9) == b"ain" and not os.get_inheritable(fd)
    yield descriptor
    def by_proc():
        fd = os.open("b", os.O_RDONLY)
        os.truncate("/proc/self/fd/%d" % fd, 0)
    yield by_proc
    def times():
        fd = os.open("a", os.O_RDONLY)
        os.utime(fd, (3, 4))
        os.utime("sub/d", (3, 4))
    yield times
    def below():
        dir = os.open("sub", os.O_RDONLY)
        os.close(os.open("d", os.O_WRONLY | os.O_APPEND, dir_fd=dir))
        os.rename("d", "e", src_dir_fd=dir, dst_dir_fd=dir)
    yield below
    def chrooted():
        if os.fork() == 0:
            os.chroot(".")
            os.chmod("/sub/../../a", 0o600)
            os._exit(0)
        assert os.wait()[1] == 0
    yield chrooted
    def threads():
        import threading
        all = [threading.Thread(target=lambda n=n: os.chmod(n, 0o600)) for n in ("a", "b", "c", "sub/d")]
        [t.start() for t in all]
        [t.join() for t in all]
    yield threads
    def unprivileged():
        if os.fork() == 0:
            os.setuid(1000)
            for refused in (lambda: os.chmod("a", 0o666), lambda: os.unlink("b"), lambda: open("c", "w")):
                try:
                    refused()
                    os._exit(1)
                except PermissionError:
                    pass
            os._exit(0)
        assert os.wait()[1] == 0
    yield unprivileged
    def exchange():
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.renameat2(-100, b"a", -100, b"sub/d", 2) == 0
        assert libc.renameat2(-100, b"b", -100, b"c", 1) == -1
        assert [os.stat(n).st_nlink for n in ("a", "sub/d", "b")] == [1, 1, 4]
    yield exchange
    def directories():
        try:
            os.rename("sub", "sub2")
            raise SystemExit("a directory of a layer below moved")
        except OSError as e:
            assert e.errno == errno.EXDEV
        os.mkdir("new")
        os.rename("new", "newer")
        # A directory made anew moves, also with the number of one that is gone.
        number = os.stat("sub").st_ino
        os.unlink("sub/d")
        os.rmdir("sub")
        for n in range(200):
            os.mkdir("n%d" % n)
            if os.stat("n%d" % n).st_ino == number:
                break
        os.rename("n%d" % n, "sub")
        os.rename("sub", "other")
        [os.rmdir("n%d" % i) for i in range(n)]
    yield directories
    def again():
        os.rename("a", "z")
        os.link("z", "a")
        open("a", "a").close()
        assert os.stat("a").st_nlink == 2 and os.stat("b").st_nlink == 4
        assert os.stat("a").st_ino == os.stat("z").st_ino != os.stat("b").st_ino == os.stat("c").st_ino
    yield again

for number, way in enumerate(ways()):
    os.chdir("/l%d/d" % number)
    way()
"#;

#[test]
fn copy_snapshotter_breaks_hard_links_on_any_access() {
    requires!(userns, overlay);
    let ways = PYTHON.matches("    yield ").count();
    let mut dockerfile = "-- Dockerfile --\nFROM python\nADD base.tar /base\n".to_owned();
    let copies: Vec<String> = (0..ways).map(|n| format!("ADD base.tar /l{n}\n")).collect();
    dockerfile.push_str(&copies.concat());
    dockerfile.push_str("RUN --mount=type=bind,source=ways.py,target=/ways.py python3 /ways.py\n");
    dockerfile.push_str(&format!("-- ways.py --{PYTHON}"));
    let layers = |env: &TestEnv, how: &str| {
        let context = env.context(&dockerfile);
        linked(&context.join("base.tar"));
        let args = ["-t", "app", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000", "--snapshotter", how];
        env.build(&args, &context).ok().never_says("being asked");
        let image = env.image("app");
        let ids: Vec<String> = image.diff_ids().iter().map(|id| (*id).to_owned()).collect();
        (ids, image.layer_tree(image.layers.len() - 1))
    };
    let env = TestEnv::new();
    env.import("python");
    let stacked = layers(&env, "overlay");
    let copied = layers(&env, "copy");
    copied.1.assert_same(&stacked.1);
    assert_eq!(copied.0, stacked.0);
    env.assert_swept();
    if crate::support::requires::is_root() && crate::support::requires::have("kiln_test") {
        let user = TestEnv::of_plain_user();
        user.import("python");
        let theirs = layers(&user, "copy");
        theirs.1.assert_same(&stacked.1);
    }
}

#[test]
fn kiln_run_on_copy_breaks_hard_links_like_overlay() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nADD base.tar /\n");
    linked(&context.join("base.tar"));
    env.build(&["-t", "base"], &context).ok();
    let command = "echo x > /d/a; cat /d/b; stat -c %h /d/a /d/b; mv /d/sub /e; touch -d @9 /d /d/a /e";
    let mut ids = Vec::new();
    for how in ["overlay", "copy"] {
        let ran = env.kiln(&["run", "--snapshotter", how, "--commit", "done", "base", "sh", "-c", command]).ok();
        assert_eq!(ran.stdout, "plain1\n4\n", "{how}");
        ids.push(env.image("done").layer_tree(2));
    }
    ids[1].assert_same(&ids[0]);
}

#[test]
fn copy_snapshotter_warns_without_seccomp_notify() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context =
        env.context("-- Dockerfile --\nFROM busybox\nADD base.tar /\nRUN echo x > /d/a; cat /d/b; mv /d/sub /e\n");
    linked(&context.join("base.tar"));
    let context = context.to_str().expect("a name");
    let built = env.kiln_on_old_kernel(&["build", "--snapshotter", "copy", "-t", "app", context]).ok();
    built.says("without seccomp notification").says("Linux 5.5").says("| x");
    assert!(env.image("app").layer_tree(2).has("d/c"));
}

#[test]
fn copy_snapshotter_copies_bind_mount_sources() {
    // M-1…M-3
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --
FROM busybox AS other
RUN mkdir /o && echo gone > /o/gone && echo stays > /o/stays
RUN rm /o/gone
FROM busybox
RUN --mount=type=bind,from=other,target=/m --mount=type=bind,from=other,source=/o,target=/o,rw \\
    --mount=type=bind,target=/c --mount=type=bind,target=/w,rw \\
    touch /o/new /w/new && ! touch /m/new /c/new && ls -R /m/o /o /c /w > /seen && grep overlay /proc/mounts >> /seen || true
RUN --mount=type=bind,from=other,target=/m --mount=type=bind,target=/c ls /m/o /c >> /seen
FROM other
COPY --from=1 /seen /
# Its own layers are mounted as well.
RUN --mount=type=bind,from=other,target=/m ls /o /m/o >> /seen
-- .dockerignore --
hidden
-- file --
-- hidden --
",
    );
    let mut seen = Vec::new();
    for how in ["overlay", "copy"] {
        env.build(&["-t", "app", "--no-cache", "--snapshotter", how], &context).ok();
        let text = String::from_utf8(env.image("app").content("seen")).unwrap();
        assert_eq!(text.contains(" overlay "), how == "overlay", "{text}");
        seen.push(text.lines().filter(|line| !line.contains("overlay")).collect::<Vec<_>>().join("\n"));
    }
    assert!(seen[0].contains("stays") && !seen[0].contains("gone") && !seen[0].contains("hidden"), "{}", seen[0]);
    assert_eq!(seen[1], seen[0]);
    env.assert_swept();
}

#[test]
fn unknown_snapshotter_is_a_usage_error() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\n");
    env.build(&["--snapshotter", "btrfs"], &context).fails(2).says("overlay");
}
