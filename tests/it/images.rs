//! Test the commands for images: pull, images, tag, inspect, rmi, save, info and version.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::env::fixture;
use crate::support::{Image, Registry, TestEnv};

/// A store with `busybox:1` pulled from a registry that serves the fixture.
fn pulled() -> (TestEnv, Registry, String) {
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base/busybox:1");
    let env = TestEnv::new();
    env.kiln(&["pull", &name]).ok();
    (env, registry, name)
}

#[test]
fn pulled_image_has_digest_of_registry() {
    requires!(docker_registry, skopeo);
    let (env, registry, name) = pulled();
    let (ours, theirs) = (env.image(&name), Image::open(&fixture("busybox").join("layout"), "latest:latest"));
    assert_eq!(ours.digest, theirs.digest);
    drop(registry);
    // The image is in the store; no registry is needed.
    env.kiln(&["history", &name]).ok().says("rootfs-fixtures/busybox");
    env.assert_swept();
}

#[test]
fn store_is_an_oci_layout_that_skopeo_reads() {
    requires!(docker_registry, skopeo);
    let (env, _registry, name) = pulled();
    env.kiln(&["tag", &name, "short"]).ok();
    assert_eq!(fs::read_to_string(env.store().join("oci-layout")).expect("read"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    env.image("short").skopeo_check();
}

#[test]
fn images_are_listed_tagged_inspected_and_removed() {
    requires!(docker_registry, skopeo);
    let (env, _registry, name) = pulled();
    let image = env.image(&name);
    env.kiln(&["images"]).ok().says(name.rsplit_once(':').expect("a tag").0);

    env.kiln(&["tag", &name, "mine", "mine:2"]).ok();
    assert_eq!(env.kiln(&["images", "--quiet", "--no-trunc"]).ok().lines().count(), 1, "three names, one image");
    let listed = env.kiln(&["images"]).ok();
    assert_eq!(listed.lines().filter(|l| l.starts_with("mine")).count(), 2, "{listed}");
    let told: Value = serde_json::from_str(&env.kiln(&["inspect", "mine"]).ok()).expect("JSON");
    assert!(told.to_string().contains(&image.digest), "{told:#}");
    let config: Value = serde_json::from_str(&env.kiln(&["inspect", "--config", "mine:2"]).ok()).expect("JSON");
    assert_eq!(config, image.config);

    env.kiln(&["rmi", &name]).ok();
    env.kiln(&["inspect", &name]).fails(1);
    assert_eq!(env.image("mine").digest, image.digest, "other names stay");
    let short = &image.digest["sha256:".len()..][..12];
    env.kiln(&["inspect", short]).ok();
    env.kiln(&["rmi", "mine", "mine:2"]).ok();
    env.kiln(&["inspect", short]).fails(1);
    assert!(Image::names(&env.store()).is_empty());
    env.kiln(&["rmi", "--force", "mine"]).ok();
}

#[test]
fn saved_archives_are_read_by_skopeo() {
    requires!(docker_registry, skopeo);
    let (env, _registry, name) = pulled();
    for (format, transport) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let file = env.dir().join(format!("{format}.tar"));
        env.kiln(&["save", "--format", format, "-o", file.to_str().expect("UTF-8"), &name]).ok();
        let copy = format!("oci:{}:x", env.dir().join(format).display());
        let out = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", &format!("{transport}:{}", file.display()), &copy])
            .output()
            .expect("run skopeo");
        assert!(out.status.success(), "{format}: {}", String::from_utf8_lossy(&out.stderr));
        let copied = Image::open(&env.dir().join(format), "x");
        assert_eq!(copied.diff_ids(), env.image(&name).diff_ids());
    }
}

#[test]
fn several_images_are_saved_in_one_archive() {
    requires!(skopeo);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY Dockerfile /\n");
    env.build(&["-t", "app:1", "-t", "app:2"], &context).ok();
    for format in ["oci", "docker"] {
        let file = env.dir().join("all.tar");
        let path = file.to_str().expect("UTF-8");
        env.kiln(&["save", "--format", format, "-o", path, "app:1", "busybox", "app:2"]).ok();
        let other = TestEnv::new();
        let loaded = other.kiln(&["load", "-i", path]).ok();
        for name in ["app:1", "app:2", "busybox:latest"] {
            loaded.says(&format!("loaded {name}"));
            assert_eq!(other.image(name).digest, env.image(name).digest);
        }
        let names = if format == "oci" { ["1", "2", "latest"] } else { ["app:1", "app:2", "busybox:latest"] };
        for name in names {
            let archive = format!("{format}-archive:{path}:{name}");
            let out = Command::new("skopeo").args(["inspect", "--config", &archive]).output().expect("run skopeo");
            assert!(out.status.success(), "{archive}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
    env.kiln(&["save", "-o", "x.tar", "busybox", "nothing"]).fails(1).says("no image named");
    assert!(!env.dir().join("x.tar").exists());
}

/// What an image without PATH gets.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn templates_and_filters_select_what_is_printed() {
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nENV A=1 B=2\nLABEL k=v\n");
    env.build(&["-t", "team/app:1", "-t", "other"], &context).ok();
    let says = |args: &[&str]| env.kiln(args).ok().stdout.trim_end().to_owned();
    let digest = env.image("busybox").digest;
    assert_eq!(says(&["inspect", "-f", "{{.Id}}", "busybox"]), digest);
    assert_eq!(
        says(&["inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", "other"]),
        format!("{PATH}\nA=1\nB=2")
    );
    assert_eq!(says(&["inspect", "-f", "{{index .Config.Labels \"k\"}}", "other"]), "v");
    let list = |filter: &str| {
        let mut names: Vec<String> = says(&["images", "--filter", filter, "--format", "{{.Repository}}:{{.Tag}}"])
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    assert_eq!(list("label=k"), ["other:latest", "team/app:1"]);
    assert_eq!(list("label=k=w"), [""; 0]);
    assert_eq!(list("reference=team/*"), ["team/app:1"]);
    assert_eq!(list("reference=*:1*"), [""; 0]);
    assert_eq!(list("reference=busybox:lat*"), ["busybox:latest"]);
    assert_eq!(list("before=busybox"), [""; 0]);
    assert_eq!(list("dangling=true"), [""; 0]);
    let table = says(&["images", "--format", "table {{.Repository}}\\t{{.ID}}", "busybox"]);
    let hex = &digest["sha256:".len()..][..12];
    assert_eq!(table, format!("REPOSITORY   IMAGE ID\nbusybox      {hex}"));
    assert_eq!(says(&["image", "ls", "-q", "--no-trunc", "busybox"]), digest);
    assert!(says(&["history", "--format", "{{.CreatedBy}}", "other"]).starts_with("LABEL k=v"));
    env.kiln(&["images", "--format", "{{.Nmae}}"]).fails(2).says("there is no field .Nmae; there are .CreatedAt");
    env.kiln(&["images", "--format", "yaml"]).fails(2).says("want text, json or a template");
    env.kiln(&["images", "--filter", "size=1"]).fails(2).says("there are dangling, reference");
    env.kiln(&["images", "--filter", "since=nothing"]).fails(1).says("no image named");
}

#[test]
fn info_shows_store_and_version_shows_version() {
    let env = TestEnv::new();
    env.kiln(&["version"]).ok().says(env!("CARGO_PKG_VERSION"));
    let version: Value = serde_json::from_str(&env.kiln(&["version", "--format", "json"]).ok()).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    env.kiln(&["info"]).ok().says(env.store().to_str().expect("UTF-8"));
    let elsewhere = env.dir().join("elsewhere");
    env.kiln(&["--root", elsewhere.to_str().expect("UTF-8"), "info"]).ok().says("elsewhere");
}

#[test]
fn store_of_newer_version_is_refused() {
    // S-133
    let env = TestEnv::new();
    env.kiln(&["images"]).ok();
    fs::create_dir_all(env.store()).expect("create");
    fs::write(env.store().join("version"), "999\n").expect("write");
    let done = env.kiln(&["images"]).output();
    assert_ne!(done.code, 0, "{done}");
    done.says("999");
}
