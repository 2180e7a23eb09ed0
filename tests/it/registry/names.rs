//! Test how image names are resolved: tags, digests and platforms.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::env::fixture;
use crate::support::image::sha256;
use crate::support::{Registry, TestEnv};

fn from(env: &TestEnv, name: &str) -> PathBuf {
    env.context(&format!("-- Dockerfile --\nFROM {name}\nCOPY Dockerfile /\n"))
}

#[test]
fn from_pulls_once_over_http_on_loopback() {
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "deep/er/busybox:1.0");
    let env = TestEnv::new();
    let context = from(&env, &name);
    env.build(&["-t", "app"], &context).ok().says("fetching");
    let first = env.image("app").digest;
    assert!(env.image("app").tree().0.contains_key("bin/busybox"));
    // The image is in the store: no request is made, not even to resolve the tag (O-42).
    drop(registry);
    env.build(&["-t", "app"], &context).ok();
    env.build(&["-t", "app", "--no-cache"], &context).ok();
    assert_eq!(env.image("app").digest, first);
    env.build(&["--pull"], &context).fails(3).says(&name[..name.rfind(':').expect("a tag")]);
    env.assert_swept();
}

#[test]
fn tag_moves_only_with_pull_and_digest_never() {
    // O-42
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let busybox = fixture("busybox").join("layout");
    let name = registry.push_layout(&busybox, "latest", "base:1");
    let env = TestEnv::new();
    env.kiln(&["pull", &name]).ok();
    let old = env.image(&name).digest;
    // Push another image under the same name.
    let other = TestEnv::new();
    let tar = fixture("busybox").join("rootfs.tar");
    other.kiln(&["import", "-c", "ENV NEW=yes", tar.to_str().expect("UTF-8"), "other:1"]).ok();
    push(&other, &other.image("other:1").digest, &registry.name("base:1"), &[]);
    let see = |args: &[&str], name: &str| {
        env.build(&[args, &["-t", "seen"]].concat(), &from(&env, name)).ok();
        env.image("seen").config["config"]["Env"].to_string().contains("NEW=yes")
    };
    assert!(!see(&[], &name), "the image in the store is used");
    assert!(see(&["--pull"], &name));
    assert!(see(&[], &name), "it has moved now");
    let pinned = format!("{}@{old}", registry.name("base"));
    assert!(!see(&[], &pinned));
    assert!(!see(&["--pull"], &pinned));
    drop(registry);
    assert!(!see(&["--pull"], &pinned), "a digest needs no request");
    env.build(&[], &from(&env, &pinned.replace(&old[7..15], "00000000"))).fails(3);
}

/// Pushes an image of the store `env` as `name`; with `further` digests, an index of all of them.
fn push(env: &TestEnv, digest: &str, name: &str, further: &[(&str, &str)]) {
    let layout = env.dir().join("push");
    fs::remove_dir_all(&layout).ok();
    let status = Command::new("cp").arg("-r").arg(env.store()).arg(&layout).status().expect("run cp");
    assert!(status.success());
    let blobs = layout.join("blobs/sha256");
    let size = |digest: &str| fs::metadata(blobs.join(&digest[7..])).expect("a blob").len();
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let mut top = json!({ "mediaType": manifest, "digest": digest, "size": size(digest) });
    if !further.is_empty() {
        let entry = |(digest, arch): &(&str, &str)| {
            let (architecture, variant) = arch.split_once('/').unwrap_or((arch, ""));
            let mut platform = json!({ "os": "linux", "architecture": architecture });
            if !variant.is_empty() {
                platform["variant"] = variant.into();
            }
            json!({ "mediaType": manifest, "digest": digest, "size": size(digest), "platform": platform })
        };
        let index = "application/vnd.oci.image.index.v1+json";
        let document = json!({
            "schemaVersion": 2, "mediaType": index, "manifests": further.iter().map(entry).collect::<Vec<Value>>(),
        });
        let bytes = document.to_string().into_bytes();
        let digest = sha256(&bytes);
        fs::write(blobs.join(&digest), &bytes).expect("write");
        top = json!({ "mediaType": index, "digest": format!("sha256:{digest}"), "size": bytes.len() });
    }
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": "x" });
    let index = json!({ "schemaVersion": 2, "manifests": [top] });
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    skopeo(&layout, name);
}

fn skopeo(layout: &Path, name: &str) {
    let out = Command::new("skopeo")
        .args(["copy", "--all", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
        .arg(format!("oci:{}:x", layout.display()))
        .arg(format!("docker://{name}"))
        .output()
        .expect("run skopeo");
    assert!(out.status.success(), "skopeo copy: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn index_selects_image_by_platform() {
    // F-6
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let name = registry.name("multi:1");
    let maker = TestEnv::new();
    let tar = fixture("busybox").join("rootfs.tar");
    let mut made = Vec::new();
    for arch in ["amd64", "arm64", "arm/v7"] {
        let (platform, mark) = (format!("linux/{arch}"), format!("ENV ARCH={arch}"));
        let args = ["import", "--platform", &platform, "-c", &mark, tar.to_str().expect("UTF-8"), "x"];
        made.push((maker.kiln(&args).ok().trim().to_owned(), arch));
    }
    let made: Vec<(&str, &str)> = made.iter().map(|(digest, arch)| (digest.as_str(), *arch)).collect();
    push(&maker, made[0].0, &name, &made);
    for (digest, arch) in &made {
        let env = TestEnv::new();
        env.kiln(&["pull", "--platform", &format!("linux/{arch}"), &name]).ok().says(digest);
        assert!(env.image(&name).config["config"]["Env"].to_string().contains(&format!("ARCH={arch}")));
        // Only this platform was fetched.
        env.image(&name).tree();
    }
    let env = TestEnv::new();
    env.kiln(&["pull", "--platform", "linux/s390x", &name])
        .fails(1)
        .says("no image for linux/s390x")
        .says("linux/arm64, linux/arm/v7");
    env.build(&["--platform", "linux/arm64", "-t", "app"], &from(&env, &name)).ok();
    assert_eq!(env.image("app").config["architecture"], "arm64");
    env.build(&["-t", "own"], &from(&env, &name)).ok();
    assert_eq!(env.image("own").config["architecture"], "amd64");
}
