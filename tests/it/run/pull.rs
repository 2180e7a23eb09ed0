//! Test that `kiln run` pulls the image it is given.

use std::fs;

use crate::support::env::{each_user, fixture};
use crate::support::{Registry, TestEnv};

/// Pushes an image with `/version` to `name`.
fn publish(registry: &Registry, name: &str, version: &str) {
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nARG V\nENV V=$V\nCMD echo version $V\n");
    let name = registry.name(name);
    env.build(&["--push", "-t", &name, "--build-arg", &format!("V={version}")], &context).ok();
}

#[test]
fn run_pulls_missing_image_once() {
    requires!(userns, overlay, docker_registry);
    let registry = Registry::start();
    publish(&registry, "app:1", "1");
    let name = registry.name("app:1");
    for env in each_user() {
        let first = env.kiln(&["run", "--rm", &name]).ok();
        assert_eq!(first.stdout, "version 1\n");
        first.says(&format!("pulling {name}"));
        env.kiln(&["run", "--rm", &name]).ok().never_says("pulling");
        // By its id, too, it is found; what the store lacks is not pulled by an id.
        let id = env.image(&name).digest;
        assert_eq!(env.kiln(&["run", &id[7..19]]).ok().stdout, "version 1\n");
        env.assert_swept();
    }
}

#[test]
fn run_pull_decides_when_the_registry_is_asked() {
    requires!(userns, overlay, docker_registry);
    let registry = Registry::start();
    publish(&registry, "app:1", "1");
    let (name, env) = (registry.name("app:1"), TestEnv::new());
    let run = |when: &[&str]| env.kiln(&[&["run"], when, &[&name]].concat());
    run(&["--pull=never"]).fails(125).says(&format!("no image named \"{name}\""));
    assert_eq!(run(&["--pull", "missing"]).ok().stdout, "version 1\n");
    publish(&registry, "app:1", "2");
    assert_eq!(run(&["--pull=false"]).ok().stdout, "version 1\n");
    assert_eq!(run(&["--pull=never"]).ok().stdout, "version 1\n");
    assert_eq!(run(&["--pull=always"]).ok().stdout, "version 2\n");
    assert_eq!(run(&["--pull=true"]).ok().stdout, "version 2\n");
    drop(registry);
    run(&["--pull=always"]).fails(125).says("connection refused");
    assert_eq!(run(&[]).ok().stdout, "version 2\n");
}

#[test]
fn run_of_unknown_image_names_the_registry() {
    requires!(docker_registry);
    let (registry, env) = (Registry::start(), TestEnv::new());
    let name = registry.name("nosuch:1");
    let done = env.kiln(&["run", &name, "true"]).fails(125);
    let error = format!("error: image {name} not found: neither the store nor {} has it\n", registry.host());
    assert!(done.stderr.starts_with(&error), "{}", done.stderr);
}

#[test]
fn pull_unpacks_layers_for_the_command_that_follows() {
    requires!(root, overlay, docker_registry, skopeo);
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "busybox:1");
    let env = TestEnv::new();
    env.kiln(&["pull", "-q", &name]).ok();
    let layers = fs::read_dir(env.store().join("layers")).expect("layers").flatten();
    let files: Vec<_> = layers.map(|layer| layer.path().join("fs2/bin/busybox")).collect();
    assert!(!files.is_empty() && files.iter().all(|file| file.is_file()), "{files:?}");
    env.kiln(&["run", &name, "true"]).ok();
    env.assert_swept();
}
