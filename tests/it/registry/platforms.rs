//! Test images of several platforms: `pull --all-platforms`, `push --platform`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::manifest::pushed;
use crate::support::env::each_user;
use crate::support::image::sha256;
use crate::support::{Registry, TestEnv};

/// Adds an attestation of the image `of`, as BuildKit pushes it, to the list `from` and pushes all of it as `to`. Returns the
/// digest.
fn attest(env: &TestEnv, of: &str, from: &str, to: &str) -> String {
    env.kiln(&["pull", "--all-platforms", from]).ok();
    let store = env.store();
    let blobs = store.join("blobs/sha256");
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest), bytes).expect("write");
        (format!("sha256:{digest}"), bytes.len())
    };
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": of});
    let (statement, length) = put(statement.to_string().as_bytes());
    let config = json!({
        "architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [statement]},
    });
    let (config, size) = put(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
        "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": statement, "size": length}],
    });
    let (manifest, size) = put(manifest.to_string().as_bytes());
    let names = store.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&names).expect("read")).expect("JSON");
    let path = |digest: &Value| blobs.join(&digest.as_str().expect("a digest")[7..]);
    let entry = &mut index["manifests"][0];
    let mut list: Value = serde_json::from_slice(&fs::read(path(&entry["digest"])).expect("read")).expect("JSON");
    list["manifests"].as_array_mut().expect("manifests").push(json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size,
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of},
    }));
    let (digest, size) = put(list.to_string().as_bytes());
    (entry["digest"], entry["size"]) = (json!(digest), json!(size));
    write_over(&names, index.to_string().as_bytes());
    env.kiln(&["tag", from, to]).ok();
    env.kiln(&["push", to]).ok().says(&digest);
    digest
}

fn write_over(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("write");
    fs::rename(new, path).expect("rename");
}

#[test]
fn all_platforms_are_pulled_and_pushed_with_one_digest() {
    requires!(docker_registry, skopeo);
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let [list, full, amd, arm] = ["app:1", "app:full", "app:amd64", "app:arm64"].map(|name| registry.name(name));
    let arm64 = pushed("arm64", &arm);
    pushed("amd64", &amd);
    let maker = TestEnv::new();
    maker.kiln(&["manifest", "create", &list, &amd, &arm]).ok();
    maker.kiln(&["manifest", "push", &list]).ok();
    let digest = attest(&TestEnv::new(), &arm64, &list, &full);
    let env = TestEnv::new();
    env.kiln(&["pull", "--all-platforms", &full]).ok().says(&digest).says("(linux/amd64, linux/arm64, ");
    env.kiln(&["pull", "--all-platforms", "-q", &full]).ok().says(&digest);
    assert!(env.image(&full).layers[0].is_file(), "layers are in the store");
    drop(registry);
    let copy = elsewhere.name("copy:1");
    env.kiln(&["tag", &full, &copy]).ok();
    env.kiln(&["push", &copy]).ok().says(&format!("digest: {digest}"));
    // An archive of it has all platforms.
    env.kiln(&["save", "-o", "all.tar", &full]).ok();
    let other = TestEnv::new();
    let archive = env.dir().join("all.tar");
    other.kiln(&["load", "-i", archive.to_str().expect("UTF-8"), "--platform", "linux/arm64"]).ok();
    assert_eq!(other.image(&full).digest, arm64);
    // Loaded and saved again, it is the same.
    for format in ["oci", "docker"] {
        let loaded = TestEnv::new();
        env.kiln(&["save", "--format", format, "-o", "all.tar", &full]).ok();
        let saved = fs::read(&archive).expect("read");
        loaded.kiln(&["load"]).stdin(&saved).ok().says(&format!("loaded {full}\n")).never_says("note");
        assert_eq!(loaded.kiln(&["inspect", "--format", "{{.Digest}}", &full]).ok().trim(), digest);
        loaded.kiln(&["save", "--format", format, "-o", "again.tar", &full]).ok();
        assert!(fs::read(loaded.dir().join("again.tar")).expect("read") == saved, "{format}");
        loaded.kiln(&["inspect", "--platform", "linux/arm64", &full]).ok().says(&arm64);
        loaded.kiln(&["images", "--format", "{{.Repository}}"]).ok().says("/app\n").never_says("warning");
        loaded.assert_swept();
    }
    // A build takes the image of its platform, and the name keeps the others.
    let context = env.context(&format!("-- Dockerfile --\nFROM {full}\nCOPY Dockerfile /\n"));
    env.build(&["--platform", "linux/arm64", "-t", "built"], &context).ok();
    assert_eq!(env.image("built").content("arch"), b"arm64\n");
    // One platform of it.
    let one = elsewhere.name("one:arm");
    env.kiln(&["tag", &full, &one]).ok();
    env.kiln(&["push", "--platform", "linux/arm64", &one]).ok().says(&format!("digest: {arm64}"));
    other.kiln(&["pull", "--platform", "linux/arm64", &one]).ok().says(&arm64);
    env.kiln(&["push", "--platform", "linux/s390x", &one])
        .fails(1)
        .says("has no image for linux/s390x; it has linux/amd64, linux/arm64\n");
    env.kiln(&["pull", "--all-platforms", "--platform", "linux/arm64", &one]).fails(2);
}

#[test]
fn attestations_come_and_go_with_their_images() {
    // O-68
    requires!(docker_registry);
    let registry = Registry::start();
    let names = ["amd", "arm", "amd:list", "arm:list", "amd:full", "arm:full", "all", "arm:new"];
    let [amd, arm, amd_list, arm_list, amd_full, arm_full, all, new] = names.map(|name| registry.name(name));
    let env = TestEnv::new();
    for (arch, name, list, full) in [("amd64", &amd, &amd_list, &amd_full), ("arm64", &arm, &arm_list, &arm_full)] {
        let digest = pushed(arch, name);
        env.kiln(&["manifest", "create", list, name]).ok();
        env.kiln(&["manifest", "push", "--purge", list]).ok();
        attest(&TestEnv::new(), &digest, list, full);
    }
    // As machines push that build with attestations.
    env.kiln(&["manifest", "create", &all, &amd_full, &arm_full]).ok().never_says("warning");
    let platforms = || -> Vec<String> {
        let list: Value = serde_json::from_str(&env.kiln(&["manifest", "inspect", &all]).ok().stdout).expect("JSON");
        let all = list["manifests"].as_array().expect("manifests").iter();
        all.map(|one| one["platform"]["architecture"].as_str().expect("a platform").to_owned()).collect()
    };
    assert_eq!(platforms(), ["amd64", "unknown", "arm64", "unknown"]);
    env.kiln(&["manifest", "create", "--amend", &all, &amd_full]).ok();
    assert_eq!(platforms(), ["amd64", "unknown", "arm64", "unknown"], "once is enough");
    env.kiln(&["manifest", "annotate", "--variant", "v2", &all, &amd_full]).ok();
    let root = env.context("-- new --\n");
    env.kiln(&["import", "--platform", "linux/arm64", root.to_str().expect("UTF-8"), &new]).ok();
    env.kiln(&["manifest", "create", "--amend", &all, &new]).ok().says("replacing");
    assert_eq!(platforms(), ["amd64", "unknown", "arm64"]);
    env.kiln(&["manifest", "remove", &all, &amd]).fails(1).says("has no image");
    env.kiln(&["manifest", "remove", &all, &env.image(&new).digest]).ok();
    assert_eq!(platforms(), ["amd64", "unknown"]);
    env.kiln(&["manifest", "push", &all]).ok().says("4 taken from other repositories");
}

#[test]
fn every_user_joins_and_pulls_platforms() {
    requires!(docker_registry, userns, overlay);
    let registry = Registry::start();
    let [amd, arm] = ["app:amd64", "app:arm64"].map(|name| registry.name(name));
    let digests = [pushed("amd64", &amd), pushed("arm64", &arm)];
    for (number, env) in each_user().into_iter().enumerate() {
        let list = registry.name(&format!("list:{number}"));
        env.kiln(&["manifest", "create", &list, &amd, &arm]).ok();
        env.kiln(&["manifest", "push", "--purge", &list]).ok();
        env.kiln(&["pull", "--all-platforms", &list]).ok().says("(linux/amd64, linux/arm64, ");
        let shown = env.kiln(&["manifest", "inspect", &list]).ok();
        shown.says(&digests[0]).says(&digests[1]);
        let context = env.context(&format!(
            "-- Dockerfile --\nFROM {list} AS app\nFROM busybox\nCOPY --from=app /arch /arch\nRUN grep amd64 /arch\n"
        ));
        env.build(&["--platform", "linux/amd64", "-t", "built"], &context).ok();
        env.assert_swept();
    }
}

#[test]
fn image_of_another_platform_is_refused_before_its_layers() {
    // F-6
    requires!(docker_registry);
    let registry = Registry::start();
    let name = registry.name("app:1");
    pushed("arm64", &name);
    let before = registry.requests("GET /v2/app/blobs/");
    let env = TestEnv::new();
    env.kiln(&["pull", "--platform", "linux/amd64", &name])
        .fails(1)
        .says("app:1 is an image for linux/arm64, not for linux/amd64");
    assert_eq!(registry.requests("GET /v2/app/blobs/") - before, 1, "only the config was read");
}
