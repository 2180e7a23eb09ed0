//! Test damage to any file of the store: derivable data is reported once and derived again (N-61). Layers that do not
//! match their diff-id are refused by every command (N-62).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::env::fixture;
use crate::support::image::sha256;
use crate::support::random::seeds;
use crate::support::{Image, Registry, TestEnv};

/// The name of a kind of damage, and a function that causes it.
type Way = (&'static str, fn(&Path));

/// Ways to damage a file.
const WAYS: &[Way] = &[
    ("emptied", |path| replace(path, b"")),
    ("halved", |path| {
        let bytes = fs::read(path).expect("read");
        replace(path, &bytes[..bytes.len() / 2]);
    }),
    ("garbage", |path| replace(path, b"\0rubbish\xff")),
    ("removed", |path| fs::remove_file(path).expect("remove")),
    ("a directory", |path| {
        fs::remove_file(path).expect("remove");
        fs::create_dir(path).expect("create");
    }),
    ("unreadable", |path| {
        let status = Command::new("chmod").arg("000").arg(path).status().expect("run chmod");
        assert!(status.success());
    }),
];

/// Ways to damage a directory.
const DIRECTORY_WAYS: &[Way] = &[
    ("removed", |path| fs::remove_dir_all(path).expect("remove")),
    ("emptied", |path| {
        fs::remove_dir_all(path).expect("remove");
        fs::create_dir(path).expect("create");
    }),
    ("a file", |path| {
        fs::remove_dir_all(path).expect("remove");
        fs::write(path, b"rubbish").expect("write");
    }),
];

/// Replaces the file by a new one, because blobs may be hard links.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).expect("remove");
    fs::write(path, bytes).expect("write");
}

/// Files and directories below `dir`, without the files of unpacked layers.
fn parts(dir: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry")) {
        match entry.file_type().expect("type") {
            kind if kind.is_dir() => {
                directories.push(entry.path());
                if !entry.file_name().to_string_lossy().starts_with("fs") {
                    let (more_files, more_directories) = parts(&entry.path());
                    files.extend(more_files);
                    directories.extend(more_directories);
                }
            }
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files.sort();
    directories.sort();
    (files, directories)
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("run cp");
    assert!(status.success(), "copy {}", from.display());
}

#[test]
fn build_survives_damage_to_any_store_file() {
    requires!(userns, overlay, docker_registry);
    let registry = Registry::start();
    let base = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let env = TestEnv::new();
    let context = env.context(&format!("-- Dockerfile --\nFROM {base}\nCOPY f /f\nRUN cp /f /g\n-- f --\ncontent\n"));
    let context = context.to_str().expect("UTF-8");
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1"];
    env.kiln(&["build", epoch[0], epoch[1], "-t", "app", context]).ok();
    let want = env.image("app").digest;
    let all = seeds(1).count() > 1;
    let (files, directories) = parts(&env.store());
    let cases = files.iter().flat_map(|file| WAYS.iter().map(move |way| (file, way)));
    let cases = cases.chain(directories.iter().flat_map(|dir| DIRECTORY_WAYS.iter().map(move |way| (dir, way))));
    for (number, (part, (what, damage))) in cases.enumerate() {
        // Nearly each part with one kind of damage, which differs from part to part.
        if !all && number % 7 != 0 {
            continue;
        }
        let name = part.strip_prefix(env.store()).expect("below the store");
        // Unpacked layers are verified only after a restart of the machine.
        if *what == "emptied" && part.file_name().is_some_and(|name| name.to_string_lossy().starts_with("fs")) {
            continue;
        }
        let case = format!("{} {what}", name.display());
        let store = env.dir().join("case");
        copy(&env.store(), &store);
        damage(&store.join(name));
        let root = store.to_str().expect("UTF-8");
        let again: &[&str] = if number % 2 == 0 { &["--no-cache"] } else { &[] };
        let args = [&["--root", root, "build", "-t", "app"][..], &epoch, again, &[context]].concat();
        let first = env.kiln(&args).output();
        assert!(first.code == 0, "{case}\n{first}");
        assert_eq!(Image::open(&store, "app").digest, want, "{case}");
        let second = env.kiln(&["--root", root, "build", epoch[0], epoch[1], "-t", "app", context]).output();
        assert!(second.code == 0 && !second.stderr.contains("warning"), "{case}, second build\n{second}");
        for command in [&["run", "app", "cat", "/g"][..], &["images"], &["prune"], &["prune", "--all"]] {
            let done = env.kiln(&[&["--root", root], command].concat()).output();
            assert!(done.code == 0, "{case}\n{done}");
        }
        fs::remove_dir_all(&store).expect("remove the copy");
    }
}

/// The name of a wrong config, a function that changes its diff-ids, and the expected error.
type Lie = (&'static str, fn(&mut Vec<Value>), &'static str);

/// Configs with wrong diff-ids for an image with one layer.
const LIES: &[Lie] = &[
    ("another", |diff_ids| diff_ids[0] = json!(format!("sha256:{}", "5".repeat(64))), "diff id"),
    (
        "empty",
        |diff_ids| diff_ids[0] = json!(format!("sha256:{}", sha256(&[0; 1024]).trim_start_matches("sha256:"))),
        "diff id",
    ),
    ("one-more", |diff_ids| diff_ids.push(diff_ids[0].clone()), "1 layers"),
    ("none", Vec::clear, "1 layers"),
];

/// Writes an OCI layout of busybox whose config has wrong diff-ids.
fn lying_layout(dir: &Path, lie: fn(&mut Vec<Value>)) {
    copy(&fixture("busybox").join("layout"), dir);
    let blob = |digest: &Value| dir.join("blobs/sha256").join(&digest.as_str().expect("digest")[7..]);
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON") };
    let put = |value: &Value| -> (String, usize) {
        let bytes = value.to_string().into_bytes();
        let digest = format!("sha256:{}", sha256(&bytes).trim_start_matches("sha256:"));
        fs::write(dir.join("blobs/sha256").join(&digest[7..]), &bytes).expect("write");
        (digest, bytes.len())
    };
    let mut index = read(&dir.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    let mut config = read(&blob(&manifest["config"]["digest"]));
    lie(config["rootfs"]["diff_ids"].as_array_mut().expect("diff-ids"));
    config.as_object_mut().expect("a config").remove("history");
    let (digest, size) = put(&config);
    manifest["config"]["digest"] = json!(digest);
    manifest["config"]["size"] = json!(size);
    let (digest, size) = put(&manifest);
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(size);
    fs::write(dir.join("index.json"), index.to_string()).expect("write");
}

#[test]
fn layer_with_wrong_diff_id_is_refused_everywhere() {
    requires!(userns, overlay, docker_registry, skopeo);
    let registry = Registry::start();
    // Once without the layer's blob in the store, once with it.
    for env in [TestEnv::new(), TestEnv::with_busybox()] {
        for (what, lie, says) in LIES {
            let layout = env.dir().join(what);
            lying_layout(&layout, *lie);
            let name = registry.push_layout(&layout, "latest", &format!("lying-{what}:1"));
            let path = layout.to_str().expect("UTF-8");
            let archive = env.dir().join(format!("{what}.tar"));
            let tar = Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg(".").status();
            assert!(tar.expect("run tar").success());
            let from = |line: &str| env.context(&format!("-- Dockerfile --\n{line}\n"));
            let context = |of: &str| format!("base={of}");
            let refused = |args: &[&str]| {
                env.kiln(args).fails(1).says(says);
            };
            let build = |line: &str, args: &[&str]| {
                env.build(&[&["-t", "x"], args].concat(), &from(line)).fails(1).says(says);
            };
            refused(&["pull", &name]);
            refused(&["load", "-i", path]);
            refused(&["load", "-i", archive.to_str().expect("UTF-8")]);
            build(&format!("FROM {name}\nENV a=b"), &[]);
            build(&format!("FROM {name}\nRUN true"), &[]);
            build(&format!("FROM scratch\nCOPY --from={name} / /"), &[]);
            build("FROM base\nENV a=b", &["--build-context", &context(&format!("oci-layout://{path}"))]);
            build("FROM base\nENV a=b", &["--build-context", &context(&format!("docker-image://{name}"))]);
        }
        assert!(!Image::names(&env.store()).iter().any(|name| name.contains("lying") || name.ends_with("/x:latest")));
    }
}
