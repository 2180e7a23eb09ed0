//! Test that `kiln run` pulls the image it is given.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::certificates::Authority;
use crate::support::env::{each_user, fixture, plain_user};
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
    for env in [Some(TestEnv::new()), plain_user()].into_iter().flatten() {
        env.kiln(&["pull", "-q", &name]).ok();
        let entries = |dir: &Path| fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path());
        let unpacked = || {
            let layers = entries(&env.store().join("layers")).filter(|layer| layer.is_dir());
            let files = layers.flat_map(|layer| entries(&layer).map(|files| files.join("bin/busybox")));
            files.filter_map(|file| Some(fs::metadata(&file).ok()?.ino())).collect::<Vec<_>>()
        };
        let files = unpacked();
        assert_eq!(files.len(), 1, "the layer is unpacked");
        env.kiln(&["run", &name, "true"]).ok();
        let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nRUN true\n"));
        env.build(&["-t", "app"], &context).ok();
        assert_eq!(unpacked(), files, "nothing is unpacked again");
        env.assert_swept();
    }
}

#[test]
fn run_reaches_registries_as_pull_does() {
    // S-60, O-76
    requires!(userns, overlay, docker_registry, skopeo, openssl);
    let open = Registry::start();
    open.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let env = TestEnv::new();
    let (ca, clients) = (Authority::new(env.dir(), "ca"), Authority::new(env.dir(), "clients"));
    let (server, own) = (ca.issue("server", "IP:127.0.0.1"), clients.issue("kiln", "DNS:kiln"));
    // User `kiln` with the password `secret-z9q7x-canary`, hashed once by crypt(3).
    let htpasswd = env.dir().join("htpasswd");
    fs::write(&htpasswd, "kiln:$2y$05$abcdefghijklmnopqrstuuSIBJ2c/OmurAGYN8PrgiBzK3QIbHsQm\n").expect("write");
    let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", server.certificate, server.key);
    let asks = format!("    clientcas:\n      - {}\n", clients.certificate());
    let auth = format!("auth:\n  htpasswd:\n    realm: kiln\n    path: {}\n", htpasswd.display());
    let registry = open.restart_with(&[tls, asks, auth].concat());
    let name = registry.name("base:1");
    let certificates = env.dir().join("certs");
    fs::create_dir(&certificates).expect("create");
    fs::copy(&own.certificate, certificates.join("client.cert")).expect("copy");
    fs::copy(&own.key, certificates.join("client.key")).expect("copy");
    let file = env.dir().join("credentials.json");
    let key = "a2lsbjpzZWNyZXQtejlxN3gtY2FuYXJ5";
    fs::write(&file, format!(r#"{{"auths":{{"{}":{{"auth":"{key}"}}}}}}"#, registry.host())).expect("write");
    let run = |options: &[&str]| env.kiln(&[&["run", "--pull=always"], options, &[&name, "true"]].concat());
    run(&["--tls-verify"]).fails(125).says("the certificate is signed by an unknown authority");
    run(&["--tls-verify", "--registry-ca", ca.certificate()]).fails(125).says("requires a client certificate");
    let shown = ["--cert-dir", certificates.to_str().expect("UTF-8")];
    for option in ["--registry-ca", "--ca-cert"] {
        let trusting = [&["--tls-verify", option, ca.certificate()][..], &shown].concat();
        run(&trusting).fails(125).says("denied access (no credentials for it)");
        run(&[&trusting[..], &["--authfile", file.to_str().expect("UTF-8")]].concat()).ok();
    }
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\n"));
    let options = [&["--tls-verify", "--registry-ca", ca.certificate(), "--pull=always"][..], &shown].concat();
    let explain = |more: &[&str]| {
        let dir = [context.to_str().expect("UTF-8")];
        env.kiln(&[&["cache", "explain"], &options[..], more, &dir].concat())
    };
    explain(&[]).fails(1).says("denied access (no credentials for it)");
    explain(&["--authfile", file.to_str().expect("UTF-8")]).ok();
    // The words of the command are its own.
    env.kiln(&["run", "--pull=never", &name, "echo", "--authfile", "x"]).ok().says("--authfile x");
}
