//! Test the files that configure registries: `registries.conf` in its places.

use std::fs;

use crate::support::env::fixture;
use crate::support::{Registry, TestEnv};

fn served() -> (Registry, String) {
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base/busybox:1");
    (registry, name)
}

#[test]
fn rules_say_where_repositories_are() {
    // O-76
    requires!(docker_registry, skopeo);
    let ((registry, _), env) = (served(), TestEnv::new());
    let host = registry.host();
    let conf = format!(
        "unqualified-search-registries = ['docker.io']\n\
         [[registry]]\nprefix = 'inside.example/team'\nlocation = '{host}/base'\n\
         [[registry]]\nlocation = 'mirrored.example'\n[[registry.mirror]]\nlocation = '{host}'\n\
         [[registry]]\nprefix = '*.evil.example'\nblocked = true\n"
    );
    let file = env.dir().join("registries.conf");
    fs::write(&file, &conf).expect("write");
    let path = file.to_str().expect("UTF-8");
    let kiln = |args: &[&str]| env.kiln(args).env("CONTAINERS_REGISTRIES_CONF", path);
    kiln(&["pull", "inside.example/team/busybox:1"]).ok();
    kiln(&["pull", "mirrored.example/base/busybox:1"]).ok().never_says("failed");
    kiln(&["pull", "x.evil.example/app"]).fails(1).says(&format!("x.evil.example/app:latest: blocked by {path}"));
    let context = env.context("-- Dockerfile --\nFROM inside.example/team/busybox:1\nCOPY Dockerfile /\n");
    env.build(&["--pull"], &context).env("CONTAINERS_REGISTRIES_CONF", path).ok();
    fs::write(&file, "[[registry]\n").expect("write");
    kiln(&["pull", "inside.example/team/busybox:1"]).fails(2).says("registries.conf: line 1: ");
    kiln(&["pull", "x"])
        .env("CONTAINERS_REGISTRIES_CONF", "/nowhere.conf")
        .fails(2)
        .says("/nowhere.conf: does not exist");
}

#[test]
fn rules_of_user_and_drop_ins_are_read() {
    // O-76
    requires!(docker_registry, skopeo);
    let ((registry, name), env) = (served(), TestEnv::new());
    let dir = env.dir().join("home/.config/containers");
    fs::create_dir_all(dir.join("registries.conf.d")).expect("create");
    let rule = |location: &str| format!("[[registry]]\nprefix = 'inside.example'\nlocation = '{location}'\n");
    fs::write(dir.join("registries.conf"), rule("127.0.0.1:1")).expect("write");
    env.kiln(&["pull", "inside.example/base/busybox:1"]).fails(3).says("127.0.0.1:1");
    fs::write(dir.join("registries.conf.d/50-own.conf"), rule(&registry.host())).expect("write");
    env.kiln(&["pull", "inside.example/base/busybox:1"]).ok();
    // A broken file that nobody named is told, and nothing more.
    fs::write(dir.join("registries.conf.d/60-broken.conf"), "location = \n").expect("write");
    env.kiln(&["pull", &name]).ok().says("warning: ").says("60-broken.conf: line 1: ");
}
