//! Test images with malformed or hostile documents: they load or fail, without a panic and without use as a path.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::TestEnv;
use crate::support::env::fixture;
use crate::support::image::sha256;

/// The documents of the base image.
struct Documents {
    index: Value,
    manifest: Value,
    config: Value,
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

fn blob(layout: &Path, digest: &Value) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(&digest.as_str().expect("a digest")[7..])
}

impl Documents {
    fn of_base() -> Documents {
        let layout = fixture("busybox").join("layout");
        let mut index = read(&layout.join("index.json"));
        index["manifests"][0]["annotations"] = json!({"org.opencontainers.image.ref.name": "x:1"});
        let manifest = read(&blob(&layout, &index["manifests"][0]["digest"]));
        let config = read(&blob(&layout, &manifest["config"]["digest"]));
        Documents { index, manifest, config }
    }

    /// Writes a layout of these documents after `change` modified one of them.
    fn write(mut self, at: &Path, which: &str, change: &dyn Fn(&mut Value)) {
        fs::remove_dir_all(at).ok();
        let blobs = at.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("create");
        let base = fixture("busybox").join("layout");
        let layer = blob(&base, &self.manifest["layers"][0]["digest"]);
        fs::copy(&layer, blobs.join(layer.file_name().expect("a name"))).expect("copy");
        let put = |document: &Value, descriptor: &mut Value| {
            let bytes = document.to_string();
            fs::write(blobs.join(sha256(bytes.as_bytes())), &bytes).expect("write");
            descriptor["digest"] = json!(format!("sha256:{}", sha256(bytes.as_bytes())));
            descriptor["size"] = json!(bytes.len());
        };
        if which == "config" {
            change(&mut self.config);
        }
        put(&self.config, &mut self.manifest["config"]);
        if which == "manifest" {
            change(&mut self.manifest);
        }
        put(&self.manifest, &mut self.index["manifests"][0]);
        if which == "index" {
            change(&mut self.index);
        }
        fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
        fs::write(at.join("index.json"), self.index.to_string()).expect("write");
    }
}

/// Loads the layout and builds on it. Returns the error of the load, if any.
fn tried(env: &TestEnv, layout: &Path, what: &str) -> Option<String> {
    let done = env.kiln(&["load", "-i", layout.to_str().expect("UTF-8")]).output();
    assert!(done.code <= 3 && !done.stderr.contains("panicked"), "{what}: {done}");
    if done.code != 0 {
        return Some(done.stderr);
    }
    for line in [&["inspect", "x:1"][..], &["history", "x:1"], &["images"], &["rmi", "x:1"]] {
        if line[0] == "rmi" {
            let context = env.context("-- Dockerfile --\nFROM x:1\nLABEL a=b\nCMD [\"x\"]\n");
            let built = env.build(&["-t", "on"], &context).output();
            assert!(built.code <= 3 && !built.stderr.contains("panicked"), "{what}: {built}");
        }
        let done = env.kiln(line).output();
        assert!(done.code <= 3 && !done.stderr.contains("panicked"), "{what}: {done}");
    }
    None
}

#[test]
fn malformed_documents_never_panic() {
    // S-5
    let env = TestEnv::new();
    let layout = env.dir().join("layout");
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let odd = [json!(null), json!([]), json!({}), json!(-1), json!(1e300), json!("\u{0}../\u{1b}[31m"), deep];
    let places = [
        ("config", "/config"),
        ("config", "/config/Env"),
        ("config", "/config/Volumes"),
        ("config", "/config/OnBuild"),
        ("config", "/config/Healthcheck"),
        ("config", "/rootfs"),
        ("config", "/rootfs/diff_ids"),
        ("config", "/history"),
        ("config", "/created"),
        ("config", "/architecture"),
        ("manifest", ""),
        ("manifest", "/layers"),
        ("manifest", "/layers/0/size"),
        ("manifest", "/layers/0/mediaType"),
        ("manifest", "/config"),
        ("manifest", "/schemaVersion"),
        ("index", ""),
        ("index", "/manifests"),
        ("index", "/manifests/0/platform"),
        ("index", "/manifests/0/annotations"),
    ];
    for (which, place) in places {
        for value in &odd {
            let change = |document: &mut Value| match place.rsplit_once('/') {
                None => *document = value.clone(),
                Some((parent, key)) => match document.pointer_mut(parent) {
                    Some(Value::Object(map)) => drop(map.insert(key.to_owned(), value.clone())),
                    Some(Value::Array(list)) => list[0] = value.clone(),
                    _ => {}
                },
            };
            Documents::of_base().write(&layout, which, &change);
            tried(&env, &layout, &format!("{which}{place} = {value}"));
        }
    }
    // S-56: manifest and config must have the same number of layers.
    for (which, place) in [("config", "/rootfs/diff_ids"), ("manifest", "/layers")] {
        for count in [0, 2] {
            let change = |document: &mut Value| {
                let list = document.pointer_mut(place).and_then(Value::as_array_mut).expect("a list");
                *list = vec![list[0].clone(); count];
            };
            Documents::of_base().write(&layout, which, &change);
            let said = tried(&env, &layout, place).unwrap_or_else(|| panic!("{count} in {which}{place} was taken"));
            assert!(said.contains("layers"), "{said}");
        }
    }
    env.assert_swept();
}

#[test]
fn digest_that_is_a_path_is_refused() {
    // S-19
    let env = TestEnv::new();
    let layout = env.dir().join("layout");
    let outside = env.dir().join("outside");
    fs::write(&outside, "{}").expect("write");
    let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let digests = [
        String::new(),
        "sha256:".to_owned(),
        "sha256:../../../outside".to_owned(),
        format!("sha256:{}", outside.display()),
        format!("sha256:{}", good.to_uppercase()),
        format!("sha256:{good}0"),
        format!("sha256:{}", &good[1..]),
        format!("md5:{good}"),
        format!("../outside:{good}"),
        good.to_owned(),
        format!("sha256:{}/", &good[1..]),
    ];
    for digest in &digests {
        for (which, place) in [("index", "/manifests/0"), ("manifest", "/config"), ("manifest", "/layers/0")] {
            let change =
                |document: &mut Value| document.pointer_mut(place).expect("a descriptor")["digest"] = json!(digest);
            Documents::of_base().write(&layout, which, &change);
            assert!(tried(&env, &layout, digest).is_some(), "{which}{place}: {digest:?} was taken");
        }
        let change = |document: &mut Value| document["rootfs"]["diff_ids"][0] = json!(digest);
        Documents::of_base().write(&layout, "config", &change);
        tried(&env, &layout, digest);
        env.build(&[], &env.context(&format!("-- Dockerfile --\nFROM busybox@{digest}\n"))).fails(1);
    }
    assert_eq!(fs::read_to_string(&outside).expect("read"), "{}");
    env.assert_swept();
}

#[test]
fn image_names_that_are_paths_are_refused() {
    // S-9
    let env = TestEnv::new();
    let tar = fixture("busybox").join("rootfs.tar");
    let tar = tar.to_str().expect("UTF-8");
    for name in
        ["../x", "..", "/etc/x", "a/../../b", "a:../b", "x:", "a b", "", "x\u{1b}[31m", "UPPER", &"x".repeat(5000)]
    {
        let done = env.kiln(&["import", tar, name]).output();
        assert!(matches!(done.code, 1 | 2), "{done}");
        assert!(!done.stderr.contains('\u{1b}'), "{done}");
        env.kiln(&["tag", "x", name]).output();
    }
    assert!(!env.dir().join("x").exists() && !Path::new("/etc/x").exists());
    env.assert_swept();
}
