//! Test `-o`: image archives and layouts, a tar of the file system, and files (O-62…O-66).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::image::sha256;
use crate::support::{Image, TestEnv, Tree};

/// Two layers of which the second removes, replaces and links what the first made.
fn context(env: &TestEnv) -> std::path::PathBuf {
    env.context(
        "-- Dockerfile --\nFROM busybox\n\
         RUN mkdir /d /gone && echo one > /d/a && ln /d/a /d/b && echo x > /gone/x && echo y > /was-file && \
         ln -s /d/a /link && mkfifo /d/pipe && chmod 4755 /d/a && chown 33:44 /was-file && touch -d @99 /d\n\
         RUN rm -r /gone && rm /d/a && rm /was-file && mkdir -m 0500 /was-file && echo z > /was-file/z && \
         mkdir -m 1777 /new\nLABEL a=b\n",
    )
}

fn skopeo_copies(env: &TestEnv, from: &str) -> Image {
    let to = env.dir().join("copied");
    fs::remove_dir_all(&to).ok();
    let args = ["copy", "--quiet", "--insecure-policy", from, &format!("oci:{}:x", to.display())];
    let out = Command::new("skopeo").args(args).output().expect("run skopeo");
    assert!(out.status.success(), "{from}: {}", String::from_utf8_lossy(&out.stderr));
    Image::open(&to, "x")
}

#[test]
fn output_archives_and_layouts_are_read_by_skopeo() {
    // O-62, O-63
    requires!(userns, overlay, skopeo);
    let env = TestEnv::with_busybox();
    let context = context(&env);
    let outputs = ["-o", "type=oci,dest=a.tar", "-o", "type=oci-layout,dest=l", "-o", "type=docker,dest=d.tar"];
    env.build(&[&outputs[..], &["-t", "app:1", "-t", "other/app"]].concat(), &context).ok();
    let image = env.image("app:1");
    for from in
        ["oci-archive:a.tar:1", "oci:l:1", "docker-archive:d.tar:app:1", "docker-archive:d.tar:other/app:latest"]
    {
        let (transport, rest) = from.split_once(':').expect("a transport");
        let copied = skopeo_copies(&env, &format!("{transport}:{}/{rest}", env.dir().display()));
        assert_eq!(copied.diff_ids(), image.diff_ids(), "{from}");
        assert_eq!(copied.config["config"]["Labels"]["a"], "b", "{from}");
    }
    assert_eq!(Image::open(&env.dir().join("l"), "1:latest").digest, image.digest);
    // The same image gives the same archive.
    let first = fs::read(env.dir().join("a.tar")).expect("an archive");
    env.build(&["-t", "app:1", "-t", "other/app", "-o", "type=oci,dest=again.tar"], &context).ok();
    assert!(first == fs::read(env.dir().join("again.tar")).expect("an archive"));
    // An existing layout keeps its other images.
    env.kiln(&["tag", "busybox", "second:2"]).ok();
    let second = env.context("-- Dockerfile --\nFROM second:2\n");
    env.build(&["-t", "second:2", "-o", "type=oci-layout,dest=l"], &second).ok();
    assert_eq!(Image::names(&env.dir().join("l")).len(), 3);
}

#[test]
fn output_tar_is_file_system_of_container() {
    // O-64
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = context(&env);
    env.build(&["-t", "app", "-o", "type=tar,dest=root.tar"], &context).ok();
    let tar = fs::read(env.dir().join("root.tar")).expect("a tar");
    let mut got = Tree::default();
    // Resolve hard links, as unpacking does.
    got.lay(&Tree::of_tar(&tar[..]));
    assert_eq!(got, env.image("app").tree());
    assert!(!got.0.contains_key("gone") && got["d/b"].mode == 0o4755, "{got}");
    let listed = Command::new("tar").args(["-tf", "root.tar"]).current_dir(env.dir()).output().expect("run tar");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains(".wh."), "{listed}");
    // The same to standard output, from the cache.
    let mut stdout = env.build(&["-o", "-"], &context).spawn().wait_with_output().expect("wait").stdout;
    assert!(stdout == tar);
    stdout.clear();
    env.assert_swept();
}

fn files(env: &TestEnv) {
    let context = context(env);
    let out = env.dir().join("out");
    let owner = fs::metadata(env.dir().join("home")).expect("home").uid();
    env.build(&["-t", "app", "-o", "out"], &context).ok().says("1 files were written without their setuid");
    let check = |path: &str, mode: u32| {
        let meta = fs::symlink_metadata(out.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, owner), "{path}");
        meta
    };
    check("d/b", 0o755);
    check("was-file", 0o500);
    assert_eq!(check("new", 0o1777).mtime(), env.image("app").tree()["new"].mtime.expect("a time"));
    assert_eq!(fs::read_link(out.join("link")).expect("a link"), Path::new("/d/a"));
    assert!(!out.join("gone").exists());
    // Write again over existing files, with symlinks in the way and another file next to them.
    fs::write(out.join("mine"), "mine").expect("write");
    fs::remove_dir_all(out.join("new")).expect("remove");
    let bait = env.dir().join("bait");
    fs::create_dir(&bait).expect("create");
    fs::write(bait.join("b"), "bait").expect("write");
    fs::set_permissions(&bait, fs::Permissions::from_mode(0o777)).expect("chmod");
    symlink(&bait, out.join("new")).expect("symlink");
    fs::remove_dir_all(out.join("d")).expect("remove");
    symlink(&bait, out.join("d")).expect("symlink");
    env.build(&["-o", "type=local,dest=out"], &context).ok();
    assert_eq!(fs::read_to_string(out.join("mine")).expect("kept"), "mine");
    assert!(!fs::symlink_metadata(out.join("new")).expect("new").is_symlink());
    assert_eq!(fs::read_to_string(bait.join("b")).expect("the bait"), "bait", "A LINK WAS FOLLOWED");
    assert_eq!(fs::read_dir(&bait).expect("list").count(), 1, "A LINK WAS FOLLOWED");
    assert_eq!(fs::read_to_string(out.join("d/b")).expect("d/b"), "one\n");
    // An existing directory is not removed for a file.
    fs::remove_file(out.join("d/b")).expect("remove");
    fs::create_dir(out.join("d/b")).expect("create");
    env.build(&["-o", "out"], &context).fails(1).says("cannot replace out/d/b: it is a directory");
    env.assert_swept();
}

#[test]
fn local_output_belongs_to_caller() {
    // O-65, S-96
    requires!(userns, overlay);
    files(&TestEnv::with_busybox());
}

#[test]
fn local_output_of_plain_user_belongs_to_it() {
    // O-65
    requires!(root, kiln_test, userns, overlay);
    let env = TestEnv::of_plain_user();
    env.import("busybox");
    let context = context(&env);
    env.build(&["-t", "app", "-o", "out", "-o", "type=tar,dest=root.tar"], &context).ok();
    let user = fs::metadata(env.dir().join("home")).expect("home").uid();
    for path in ["out/d/b", "out/new", "root.tar", "out/bin/busybox"] {
        assert_eq!(fs::metadata(env.dir().join(path)).expect(path).uid(), user, "{path}");
    }
    // The tar has the owners, also if everything is cached and no namespace was entered.
    env.build(&["-t", "app", "-o", "type=tar,dest=warm.tar"], &context).ok();
    let read = |name: &str| fs::read(env.dir().join(name)).expect(name);
    assert!(read("root.tar") == read("warm.tar"));
    let mut tree = Tree::default();
    tree.lay(&Tree::of_tar(&read("warm.tar")[..]));
    assert_eq!(tree, env.image("app").tree());
}

#[test]
fn impossible_outputs_are_refused() {
    // O-66
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\n");
    env.build(&["-o", "type=docker"], &context).fails(2).says("no daemon to load it into");
    env.build(&["-o", "type=registry"], &context).fails(2).says("a push needs the name of the image");
    env.build(&["-t", "x", "-o", "type=oci,dest=missing/dir/a.tar"], &context).fails(1).says("missing/dir");
    // A failing output fails the build, and the image gets no name.
    env.build(&["-t", "x", "-o", "a-file/below"], &context).ok();
    fs::write(env.dir().join("plain"), "").expect("write");
    env.build(&["-t", "y", "-o", "type=tar,dest=ok.tar", "-o", "plain/below"], &context).fails(1).says("plain/below");
    env.kiln(&["inspect", "y"]).fails(1);
    assert!(env.dir().join("ok.tar").exists());
    env.assert_swept();
}

#[test]
fn archives_are_not_written_to_terminal() {
    // S-97
    requires!(script);
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nLABEL a=b\n");
    env.build(&["-t", "x"], &context).ok();
    let kiln = format!("{} --root {}", crate::support::env::binary().display(), env.store().display());
    for line in ["build -o type=tar,dest=- .", "build -o type=oci,dest=- .", "build -o - .", "save x"] {
        let done = std::process::Command::new("script")
            .args(["-qec", &format!("{kiln} {line}"), "/dev/null"])
            .current_dir(&context)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("run script");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(said.contains("to a terminal") && !said.contains("ustar"), "{line}: {said}");
        assert_eq!(done.status.code(), Some(2), "{line}: {said}");
    }
}

#[test]
fn iidfile_and_metadata_file_replace_symlinks_atomically() {
    // S-98
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nLABEL a=b\n-- bait --\nkeep\n");
    for name in ["id", "metadata"] {
        symlink("bait", context.join(name)).expect("symlink");
    }
    let path = |name: &str| context.join(name).display().to_string();
    let args = ["--iidfile", &path("id"), "--metadata-file", &path("metadata")];
    env.build(&args, &context).ok();
    assert_eq!(fs::read_to_string(context.join("bait")).expect("read"), "keep\n", "A LINK WAS FOLLOWED");
    let id = fs::read_to_string(context.join("id")).expect("read");
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let metadata: serde_json::Value =
        serde_json::from_slice(&fs::read(context.join("metadata")).expect("read")).expect("JSON");
    assert!(metadata["containerimage.digest"].is_string());
    // A failed build removes the files of an older image.
    env.add(&context, "-- Dockerfile --\nFROM scratch\nCOPY gone /\n");
    env.build(&args, &context).fails(1);
    assert!(!context.join("id").exists() && !context.join("metadata").exists());
}

#[test]
fn iidfile_replaces_symlink_planted_during_build() {
    // S-98
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let run = "RUN --mount=type=cache,target=/c,id=wait touch /c/mark && while [ -e /c/mark ]; do sleep 0.05; done";
    let context = env.context(&format!("-- Dockerfile --\nFROM busybox\n{run}\n-- bait --\nkeep\n"));
    let path = |name: &str| context.join(name).display().to_string();
    let args = ["--iidfile", &path("id"), "--metadata-file", &path("metadata")];
    let child = env.build(&args, &context).spawn();
    let mark = env.store().join("mounts").join(&sha256(b"wait")[..32]).join("0/data/mark");
    let began = std::time::Instant::now();
    while !mark.exists() {
        assert!(began.elapsed().as_secs() < 300, "the command does not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for name in ["id", "metadata"] {
        symlink("bait", context.join(name)).expect("symlink");
    }
    fs::remove_file(mark).expect("remove");
    let done = child.wait_with_output().expect("wait");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_to_string(context.join("bait")).expect("read"), "keep\n", "A LINK WAS FOLLOWED");
    assert!(fs::read_to_string(context.join("id")).expect("read").starts_with("sha256:"));
}

#[test]
fn local_output_leaves_out_devices_with_note() {
    // S-96
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nADD a.tar /\n");
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind) in
        [("dev/null", tar::EntryType::Char), ("dev/disk", tar::EntryType::Block), ("file", tar::EntryType::Regular)]
    {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o6755);
        header.set_size(0);
        header.set_device_major(1).expect("major");
        header.set_device_minor(3).expect("minor");
        archive.append_data(&mut header, name, std::io::empty()).expect("append");
    }
    fs::write(context.join("a.tar"), archive.into_inner().expect("archive")).expect("write");
    env.build(&["-o", "out"], &context).ok().says("2 devices were not written to out");
    let names = |dir: &str| {
        fs::read_dir(env.dir().join(dir)).expect("list").map(|e| e.expect("entry").file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names("out/dev"), Vec::<std::ffi::OsString>::new());
    let mode = fs::metadata(env.dir().join("out/file")).expect("file").mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-uid bit leaves an image");
}
