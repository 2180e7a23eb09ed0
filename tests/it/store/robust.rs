//! Test the store on a full, read-only or corrupt disk, and after killed builds.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::env::{binary, fixture};
use crate::support::{Image, Registry, TestEnv};

/// Runs a script with the store on a temporary file system. `$K` is kiln. Returns the output.
fn on_own_disk(env: &TestEnv, size: &str, script: &str) -> String {
    fs::create_dir(env.store()).expect("create");
    let whole = format!("mount -t tmpfs -o size={size},mode=0700 none \"$KILN_ROOT\"\n{script}");
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-c", &whole])
        .env("K", binary())
        .env("KILN_ROOT", env.store())
        .env("HOME", env.dir().join("home"))
        .env("ROOTFS", fixture("busybox").join("rootfs.tar"))
        .current_dir(env.dir())
        .output()
        .expect("run unshare");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "does not say {part:?}:\n{said}");
    }
}

#[test]
fn full_disk_is_reported_and_store_stays_intact() {
    // S-79
    requires!(root, skopeo);
    let env = TestEnv::new();
    fs::write(env.dir().join("noise"), noise()).expect("write");
    env.add(
        env.dir(),
        "-- COPY/Dockerfile --\nFROM busybox\nCOPY noise /noise\n-- RUN/Dockerfile --\nFROM busybox\nRUN true\n",
    );
    fs::copy(env.dir().join("noise"), env.dir().join("COPY/noise")).expect("copy");
    let said = on_own_disk(
        &env,
        "2500k",
        r#"exec 2>&1
        $K import "$ROOTFS" busybox && cp "$KILN_ROOT/index.json" before
        for what in "build -t x COPY" "build -t x RUN" "import noise.tar x"; do
            [ -e noise.tar ] || tar -cf noise.tar noise
            echo "== $what"; $K $what; echo "code $?"
            cmp before "$KILN_ROOT/index.json" || echo "INDEX CHANGED"
            [ -z "$(ls "$KILN_ROOT/scratch")" ] || echo "SCRATCH LEFT"
        done
        skopeo inspect --raw oci:$KILN_ROOT:busybox:latest >/dev/null || echo "NO IMAGE"
        dd if=/dev/zero of=$KILN_ROOT/blobs/fill bs=512 2>/dev/null
        echo "== tag"; $K tag busybox x; echo "code $?"
        echo "== images"; $K images; $K prune --all; echo "code $?""#,
    );
    let parts: Vec<&str> = said.split("== ").collect();
    assert_eq!(parts.len(), 6, "{said}");
    for failed in &parts[1..5] {
        says(failed, &["No space left on device", "free disk space, or choose another store", "code 3"]);
    }
    says(parts[5], &["busybox", "code 0"]);
    for wrong in ["INDEX CHANGED", "SCRATCH LEFT", "NO IMAGE"] {
        assert!(!said.contains(wrong), "{said}");
    }
}

/// Incompressible bytes.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.to_le_bytes()
    };
    (0..400_000).flat_map(|_| next(&mut state)).collect()
}

#[test]
fn read_only_store_can_be_read_and_refuses_writes() {
    // S-134
    requires!(root);
    let env = TestEnv::new();
    env.add(
        env.dir(),
        "-- context/Dockerfile --\nFROM busybox\nRUN true\n-- cached/file --\n-- cached/Dockerfile --
FROM busybox AS one\nRUN echo x > /x\nCOPY file /\nFROM busybox\nCOPY --from=one /x /\nWORKDIR /w\nENV a=b\n",
    );
    let said = on_own_disk(
        &env,
        "16m",
        r#"exec 2>&1
        $K import "$ROOTFS" busybox; $K build -t cached cached; mount -o remount,ro "$KILN_ROOT"
        # A fully cached build writes nothing.
        $K build cached && $K build -t cached -o type=oci,dest=cached.tar cached || echo "CANNOT build"
        for what in images "inspect busybox" "history busybox" "cache ls" info "save -o out.tar busybox"; do
            $K $what >/dev/null || echo "CANNOT $what"
        done
        for what in "tag busybox x" "rmi busybox" "build context" "import $ROOTFS x" "prune"; do
            echo "== $what"; $K $what; echo "code $?"
        done"#,
    );
    assert!(!said.contains("CANNOT"), "{said}");
    let parts: Vec<&str> = said.split("== ").collect();
    for failed in &parts[1..] {
        says(failed, &["Read-only file system", "choose another store with --root or KILN_ROOT", "code 3"]);
    }
    assert_eq!(parts.len(), 6, "{said}");
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    replace(path, &bytes);
}

/// Replaces the file by a new one: blobs are hard links to those of other tests' stores.
fn replace(path: &PathBuf, bytes: &[u8]) {
    fs::remove_file(path).expect("remove");
    fs::write(path, bytes).expect("write");
}

fn blob(env: &TestEnv, digest: &Value) -> PathBuf {
    env.store().join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"))
}

#[test]
fn damaged_layer_is_named_with_remedy() {
    // S-130
    requires!(userns, overlay, docker_registry, skopeo);
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let env = TestEnv::with_busybox();
    env.kiln(&["pull", &name]).ok();
    let local = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
    let remote = env.context(&format!("-- Dockerfile --\nFROM {name}\nRUN true\n"));
    let layer = |image: &Image| blob(&env, &image.manifest["layers"][0]["digest"]);
    let (ours, theirs) = (layer(&env.image("busybox")), layer(&env.image(&name)));

    // Where layers are unpacked, as a pull does, their blobs are not read.
    env.kiln(&["prune", "--all"]).ok();
    flip(&ours);
    // The damaged blob is removed with a warning; nothing else is affected.
    env.build(&[], &local).fails(3).says("warning: removed the damaged blob").says("a layer is missing from the store");
    env.build(&[], &local).fails(3).says("a layer is missing from the store").says("pull or import the image again");
    env.kiln(&["save", "-o", "x.tar", "busybox"]).fails(1).says("not in the store: pull, import or build");
    assert!(!env.dir().join("x.tar").exists());
    env.import("busybox");
    env.build(&[], &local).ok();

    // A blob that the registry has is fetched again automatically.
    env.kiln(&["prune", "--all"]).ok();
    flip(&theirs);
    env.build(&[], &remote).ok().says("fetching").says("warning: removed the damaged blob");
    env.assert_swept();
}

#[test]
fn damaged_documents_affect_only_their_image() {
    // S-130
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
    env.build(&["-t", "app"], &context).ok();
    let image = env.image("app");
    flip(&blob(&env, &image.manifest["config"]["digest"]));
    env.kiln(&["images"]).ok().says("warning: app:latest").says("damaged: pull, import or build its image again");
    env.kiln(&["inspect", "app"]).fails(1).says("not in the store: pull, import or build its image again");
    env.kiln(&["inspect", "busybox"]).ok();
    env.build(&["-t", "app"], &context).ok();
    assert_eq!(env.image("app").digest, image.digest);
    // A truncated file is detected by its size.
    let manifest = blob(&env, &Value::from(image.digest.as_str()));
    replace(&manifest, b"{");
    env.kiln(&["inspect", "app"]).fails(1).says("want");
    env.build(&["-t", "app"], &context).ok();
    assert_eq!(env.image("app").digest, image.digest);
    // Trees and context indexes are recreated silently.
    for dir in ["layers", "context"] {
        for entry in walk(&env.store().join(dir)).iter().filter(|p| p.ends_with("tree") || dir == "context") {
            fs::write(entry, "rubbish").expect("write");
        }
    }
    let other = env.context("-- Dockerfile --\nFROM busybox\nRUN true\nCOPY Dockerfile /\nRUN cat /Dockerfile\n");
    env.build(&[], &other).ok();
    env.build(&["-t", "app"], &context).ok();
    fs::write(env.store().join("index.json"), "{\"sch").expect("write");
    env.kiln(&["images"]).ok().says("warning: image names are those before the last change").says("damaged-1");
    fs::write(env.store().join("version"), "x").expect("write");
    env.kiln(&["images"]).ok().says("warning: wrote").says("version again");
    assert!(env.kiln(&["images"]).ok().stderr.is_empty());
}

fn walk(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().expect("type") {
            kind if kind.is_dir() => found.extend(walk(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// The regular files of unpacked layers, and the non-empty directories that hold a layer. Empty ones may be replaced
/// any time.
fn unpacked(env: &TestEnv) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let layers = fs::read_dir(env.store().join("layers")).expect("layers").flatten();
    let parts = layers.flat_map(|layer| fs::read_dir(layer.path()).expect("a layer").flatten());
    let holds = |path: &PathBuf| path.is_dir() && fs::read_dir(path).expect("a directory").next().is_some();
    let forms: Vec<_> = parts.map(|entry| entry.path()).filter(holds).collect();
    let files = forms.iter().flat_map(|form| walk(form));
    (files.filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() > 0)).collect(), forms)
}

#[test]
fn layer_damaged_by_power_cut_is_unpacked_again() {
    // S-130
    use std::os::unix::fs::MetadataExt as _;
    requires!(root, userns, overlay, unshare);
    for env in crate::support::env::each_user() {
        let context = env.context("-- Dockerfile --\nFROM busybox\nRUN echo made >/made\nRUN cat /made\n");
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1"];
        let args = ["build", "--no-cache", epoch[0], epoch[1], "-t", "app", context.to_str().expect("UTF-8")];
        env.kiln(&args).ok();
        let first = env.image("app");
        // Wait past the simulated start of the machine.
        std::thread::sleep(Duration::from_secs(4));
        let (files, forms) = unpacked(&env);
        assert!(files.len() >= 2 && forms.len() >= 2, "{files:?} {forms:?}");
        for file in &files {
            fs::OpenOptions::new().write(true).open(file).and_then(|f| f.set_len(1)).expect("shorten");
        }
        // Layers are not verified again while the machine runs: that would slow down every build.
        env.kiln(&args).output().says("error");
        env.kiln_restarted(&args).ok();
        assert_eq!(env.image("app").diff_ids(), first.diff_ids());
        // Whole layers are kept, and verified once.
        std::thread::sleep(Duration::from_secs(4));
        let seen = |forms: &[PathBuf]| -> Vec<(u64, i64)> {
            let all = forms.iter().map(|form| form.symlink_metadata().expect("there"));
            all.map(|meta| (meta.ino(), meta.ctime())).collect()
        };
        let (_, forms) = unpacked(&env);
        let before = seen(&forms);
        env.kiln_restarted(&args).ok();
        let after = seen(&forms);
        assert!(before.iter().zip(&after).all(|(b, a)| b.0 == a.0), "{before:?} {after:?}");
        assert!(before.iter().zip(&after).any(|(b, a)| b.1 < a.1), "{before:?} {after:?}");
        env.kiln(&args).ok();
        env.assert_swept();
    }
}

#[test]
fn store_root_can_be_a_relative_path() {
    requires!(userns, overlay);
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM base\nRUN echo here > /f\n");
    let rootfs = fixture("busybox").join("rootfs.tar").display().to_string();
    let kiln = |args: &[&str]| env.kiln(&[&["--root", "stores/mine"], args].concat()).dir(env.dir()).ok();
    kiln(&["import", &rootfs, "base"]);
    kiln(&["build", "-t", "app", &context.display().to_string()]);
    kiln(&["run", "app", "cat", "/f"]).says("here");
    assert!(env.dir().join("stores/mine/index.json").exists());
}

#[test]
fn store_is_not_readable_by_other_users() {
    // S-135
    requires!(root, kiln_test, userns, overlay);
    use std::os::unix::fs::PermissionsExt as _;
    for env in crate::support::env::each_user() {
        let context = env.context("-- Dockerfile --\nFROM busybox\nRUN echo private > /code\n");
        env.build(&["-t", "app"], &context).ok();
        let mode = fs::metadata(env.store()).expect("the store").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
    // Also with umask 0.
    let env = TestEnv::new();
    let script =
        "umask 0; \"$K\" images && exec setpriv --reuid kiln-test --regid kiln-test --clear-groups ls \"$KILN_ROOT\"";
    let out = Command::new("sh").args(["-c", script]).env("K", binary()).env("KILN_ROOT", env.store()).output();
    let out = out.expect("run sh");
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("Permission denied"), "{out:?}");
}
