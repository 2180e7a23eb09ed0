//! Test `kiln fsck`: every changed byte of a store is named, `--repair` heals what it can, and builds go on (S-130).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::env::{each_user, fixture};
use crate::support::random::{Random, seeds};
use crate::support::web::Web;
use crate::support::{Registry, TestEnv};

/// The kinds of files in a store, each with the beginning of their paths. Not here: `mounts/*/data`, which is whatever
/// commands wrote.
const KINDS: &[&str] = &[
    "oci-layout",
    "index.json.old",
    "index.json",
    "cache/v1",
    "cache/slots",
    "context",
    "fetched",
    "mounts",
    "layers/tree",
    "layers/segments",
    "layers/marks",
    "layers/fs",
    "blobs",
];

/// The files of a store with content, by kind.
fn files(store: &Path) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut found: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(store).sort_by_file_name() {
        let entry = entry.expect("walk");
        let name = entry.path().strip_prefix(store).expect("below the store").to_string_lossy().into_owned();
        let data = name.starts_with("mounts/") && name.contains("/data/");
        if !entry.file_type().is_file()
            || entry.metadata().expect("metadata").len() == 0
            || data
            || name == "version"
            || name.contains("damaged-")
        {
            continue;
        }
        // `layers/<diff-id>/tree` is of the kind `layers/tree`.
        let mut parts = name.split('/');
        let short = match (parts.next(), parts.nth(1)) {
            (Some("layers"), Some(part)) => format!("layers/{part}"),
            _ => name.clone(),
        };
        let kind = KINDS.iter().find(|kind| short.starts_with(**kind));
        found.entry(kind.unwrap_or_else(|| panic!("{name}: no kind"))).or_default().push(entry.path().to_owned());
    }
    found
}

/// Changes one bit of a file in its place.
fn flip(random: &mut Random, path: &Path) {
    let mode = fs::metadata(path).expect("metadata").permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("make it writable");
    let mut bytes = fs::read(path).expect("read");
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
    fs::write(path, bytes).expect("write");
    fs::set_permissions(path, mode).expect("restore its mode");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A store with files of every kind: a pulled base, layers of several segments, a download, a cache mount.
fn furnished(env: &TestEnv, base: &str, web: &Web) -> PathBuf {
    let context = env.context(&format!(
        "-- Dockerfile --\nFROM {base}\nADD {}/file /file\nCOPY f /f\n\
         RUN --mount=type=cache,target=/c seq 1 400000 > /big && cp /f /g && echo x > /c/x\n\
         RUN cat /f /file > /h && ln /h /i && ln -s h /j && chmod 4750 /i && exec 3<>/etc/group\n-- f --\ncontent\n",
        web.url
    ));
    build(env, &context).ok();
    env.kiln(&["tag", "app", "other"]).ok();
    context
}

fn build<'e>(env: &'e TestEnv, context: &Path) -> crate::support::env::Kiln<'e> {
    env.build(&["-t", "app"], context).env("SOURCE_DATE_EPOCH", "1000000000")
}

#[test]
fn fsck_names_every_flipped_byte_and_repairs() {
    requires!(userns, overlay, docker_registry);
    let registry = Registry::start();
    let base = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let web = Web::serve(&[("/file", "", b"from afar\n")]);
    let env = TestEnv::new();
    let context = furnished(&env, &base, &web);
    let want = env.image("app").digest;
    env.kiln(&["fsck"]).ok().says("no damage");
    env.kiln(&["fsck", "--repair"]).ok().says("no damage");
    for seed in seeds(2) {
        let mut random = Random::new(seed);
        for kind in KINDS {
            let all = files(&env.store());
            let damaged = all.get(kind).unwrap_or_else(|| panic!("the store has no {kind}"));
            damaged.iter().for_each(|path| flip(&mut random, path));
            let told = env.kiln(&["fsck"]).output();
            let text = format!("{}{}", told.stdout, told.stderr);
            // A file that cannot be read at all is replaced when the store is opened, and that is said.
            assert!(told.code == 1 || text.contains("warning: "), "{kind}, seed {seed}\n{told}");
            for path in damaged {
                let name = path.strip_prefix(env.store()).expect("below the store").to_string_lossy().into_owned();
                // There is one line for all files of an unpacked layer.
                let depth = if *kind == "layers/fs" { 3 } else { usize::MAX };
                let name = name.split('/').take(depth).collect::<Vec<_>>().join("/");
                assert!(text.contains(&name), "{kind}, seed {seed}: {name}\n{told}");
            }
            env.kiln(&["fsck", "--repair"]).output();
            build(&env, &context).ok();
            assert_eq!(env.image("app").digest, want, "{kind}, seed {seed}");
            let last = env.kiln(&["fsck", "--repair"]).output();
            let again = env.kiln(&["fsck"]).output();
            assert!(again.code == 0, "{kind}, seed {seed}\nfirst {told}\nthen {last}\nthen {again}");
            // Every kind is there again for the next round.
            env.build(&["--no-cache", "-t", "app"], &context).env("SOURCE_DATE_EPOCH", "1000000000").ok();
            env.kiln(&["rmi", "--force", "other"]).ok();
            env.kiln(&["tag", "app", "other"]).ok();
        }
    }
}

/// Ways to alter an unpacked layer, each with what fsck says.
type Way = (&'static str, fn(&Path), &'static str);

const WAYS: &[Way] = &[
    ("content", |dir| fs::write(dir.join("f"), "CONTENT\n").expect("write"), "/f has other content"),
    ("length", |dir| fs::write(dir.join("f"), "more content\n").expect("write"), "/f has another size"),
    (
        "mode",
        |dir| fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o666)).expect("chmod"),
        "/f has another mode",
    ),
    ("added", |dir| fs::write(dir.join("added"), "x").expect("write"), "/added does not belong to the layer"),
    ("removed", |dir| fs::remove_file(dir.join("f")).expect("remove"), "/f is missing"),
    (
        "link",
        |dir| {
            fs::remove_file(dir.join("f")).expect("remove");
            std::os::unix::fs::symlink("/etc/passwd", dir.join("f")).expect("link");
        },
        "/f is another kind of file",
    ),
];

#[test]
fn altered_unpacked_files_never_enter_a_layer() {
    // S-130
    requires!(root, userns, overlay);
    for env in each_user() {
        let lines = "FROM busybox\nCOPY f /f\n";
        let files = "-- f --\ncontent\n";
        let first = env.context(&format!("-- Dockerfile --\n{lines}RUN true\n{files}"));
        env.build(&["-t", "first"], &first).ok();
        let diff_id = env.image("first").diff_ids()[1].trim_start_matches("sha256:").to_owned();
        let layer = env.store().join("layers").join(diff_id);
        for (number, (what, alter, says)) in WAYS.iter().enumerate() {
            let unpacked = || {
                let mut names = fs::read_dir(&layer).expect("the layer").flatten().map(|entry| entry.path());
                names.find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("fs")))
            };
            alter(&unpacked().expect("it is unpacked"));
            env.kiln(&["fsck"]).fails(1).says(says);
            env.kiln(&["fsck", "--repair"]).ok().says(says).says("removed").says("all damage repaired");
            assert_eq!(unpacked(), None, "{what}");
            env.kiln(&["fsck"]).ok().says("no damage");
            let second = env.context(&format!("-- Dockerfile --\n{lines}RUN cat /f > /g{number}; ls > /ls\n{files}"));
            env.build(&["-t", "second"], &second).ok();
            let image = env.image("second");
            assert_eq!(image.content(&format!("g{number}")), b"content\n", "{what}");
            assert!(!String::from_utf8_lossy(&image.content("ls")).contains("added"), "{what}");
        }
    }
}

#[test]
fn repair_leaves_unpacked_files_that_running_build_uses() {
    requires!(root, userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nCOPY f /f\nRUN --mount=type=cache,target=/c touch /c/on && \
         until [ -e /c/go ]; do sleep 0.05; done\n-- f --\ncontent\n",
    );
    let child = env.build(&["-t", "app"], &context).spawn();
    let data = || Some(fs::read_dir(env.store().join("mounts")).ok()?.next()?.ok()?.path().join("0/data"));
    let started = Instant::now();
    while !data().is_some_and(|data| data.join("on").exists()) {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    env.kiln(&["fsck"]).ok().says("no damage");
    let unpacked = walkdir::WalkDir::new(env.store().join("layers")).into_iter().flatten();
    let file = unpacked.map(|entry| entry.into_path()).find(|path| path.ends_with("f")).expect("the copied file");
    fs::write(&file, "CONTENT\n").expect("alter it");
    env.kiln(&["fsck", "--repair"]).fails(1).says("a running build may use it").says("when no build is running");
    assert!(file.exists());
    fs::write(data().expect("the mount").join("go"), "").expect("let it go on");
    assert!(child.wait_with_output().expect("wait").status.success());
    env.kiln(&["fsck", "--repair"]).ok().says("removed");
    env.kiln(&["fsck"]).ok();
}

#[test]
fn images_that_lack_a_blob_are_named() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY f /f\n-- f --\ncontent\n");
    env.build(&["-t", "app"], &context).ok();
    let layer = env.image("app").manifest["layers"][1]["digest"].as_str().expect("a digest").to_owned();
    let blob = env.store().join("blobs/sha256").join(layer.trim_start_matches("sha256:"));
    let whole = fs::read(&blob).expect("read");
    flip(&mut Random::new(1), &blob);
    let told = json(&env.kiln(&["fsck", "--format", "json"]).fails(1).stdout);
    let image = &told["images"][0];
    assert_eq!(
        (&image["names"][0], &image["lacks"][0]["digest"]),
        (&"app:latest".into(), &layer.as_str().into()),
        "{told:#}"
    );
    assert!(told["left"].as_u64() >= Some(3), "blob, image and records: {told:#}");
    assert_ne!(fs::read(&blob).expect("it stays"), whole, "nothing is repaired");
    let told = json(&env.kiln(&["fsck", "--repair", "--format", "json"]).fails(1).stdout);
    assert_eq!((&told["images"][0]["result"], &told["left"]), (&"left".into(), &1.into()), "{told:#}");
    assert!(!blob.exists());
    env.kiln(&["fsck"])
        .fails(1)
        .says("app:latest")
        .says(&format!("layer {layer} is missing"))
        .says("kiln fsck --repair");
    env.kiln(&["fsck", "--repair"]).fails(1).says("build, pull or load these images again");
    env.build(&["-t", "app"], &context).ok();
    assert_eq!(fs::read(&blob).expect("made again"), whole);
    env.kiln(&["fsck"]).ok().says("no damage");
}

#[test]
fn unpacked_layer_has_only_the_files_of_its_layer() {
    requires!(userns, overlay);
    for env in each_user() {
        // The first file is copied up and left as it was; so is one in a directory that hides those below.
        let context = env.context(
            "-- Dockerfile --\nFROM busybox\nRUN mkdir /d && echo x > /d/x && touch -d @1000 /d/x\nRUN exec 3<>/etc/group; \
             rm -r /d && mkdir /d && echo x > /d/x && touch -d @1000 /d/x; echo y > /y\nRUN cat /d/x /etc/group > /z\n",
        );
        env.build(&["-t", "app"], &context).ok();
        env.kiln(&["fsck"]).ok().says("no damage");
        let want = env.image("app").content("z");
        assert!(want.starts_with(b"x\nroot:"), "{}", String::from_utf8_lossy(&want));
        // The next build reads the kept files of the second RUN.
        let text = fs::read_to_string(context.join("Dockerfile")).expect("read").replace("> /z", "> /zz");
        fs::write(context.join("Dockerfile"), text).expect("write");
        env.build(&["-t", "app"], &context).ok();
        assert_eq!(env.image("app").content("zz"), want);
        env.kiln(&["fsck"]).ok().says("no damage");
    }
}
