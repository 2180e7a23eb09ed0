//! Test pushes that are killed, registries that are restarted, and pushes at the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::random::{Random, seeds};
use crate::support::{Image, Registry, TestEnv, Tree};

/// Long enough that its transfer can be interrupted.
const LEN: usize = 24 << 20;

/// Incompressible bytes.
fn noise(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length / 4).flat_map(|_| (random.below(1 << 32) as u32).to_le_bytes()).collect()
}

/// Builds an image with two large layers as `name`, and returns its digest.
fn build(env: &TestEnv, name: &str, seed: u64, length: usize) -> String {
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY one /one\nCOPY two /two\nCOPY Dockerfile /last\n");
    let mut random = Random::new(seed);
    fs::write(context.join("one"), noise(&mut random, length)).expect("write");
    fs::write(context.join("two"), noise(&mut random, length / 2)).expect("write");
    env.build(&["-q", "-t", name], &context).ok();
    env.image(name).digest
}

/// The image that the registry has under a name, as skopeo copies it; every blob is verified.
fn copied(env: &TestEnv, name: &str) -> Image {
    let layout = env.dir().join("copied");
    fs::remove_dir_all(&layout).ok();
    let out = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
        .args([format!("docker://{name}"), format!("oci:{}:x", layout.display())])
        .output()
        .expect("run skopeo");
    assert!(out.status.success(), "skopeo copy: {}", String::from_utf8_lossy(&out.stderr));
    Image::open(&layout, "x")
}

/// Waits until `begun` says so, while the command runs.
fn wait_until(child: &mut Child, mut begun: impl FnMut() -> bool) {
    let started = Instant::now();
    while !begun() {
        assert!(child.try_wait().expect("wait").is_none(), "ended too soon");
        assert!(started.elapsed() < Duration::from_secs(60), "never began");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The size of the largest file below a directory.
fn largest(dir: &Path) -> u64 {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
}

#[test]
fn killed_push_is_completed_by_the_next_one() {
    // O-61, S-82
    requires!(docker_registry, skopeo, umoci);
    let (env, registry) = (TestEnv::new(), Registry::start());
    let (mut killed, mut all, mut usual) = (0, 0, None);
    for seed in seeds(8) {
        let name = registry.name(&format!("app{seed}:1"));
        let digest = build(&env, &name, seed, LEN / 6);
        let blobs = || Tree::of_dir(&env.store().join("blobs")).without_times();
        let before = blobs();
        // How long an undisturbed push takes.
        let usual = *usual.get_or_insert_with(|| {
            let other = Registry::start();
            env.kiln(&["tag", &name, &other.name("app:1")]).ok();
            let took = env.kiln(&["push", &other.name("app:1")]).ok().took;
            env.kiln(&["rmi", &other.name("app:1")]).ok();
            took
        });
        let mut random = Random::new(seed);
        let mut child = env.kiln(&["push", &name]).spawn();
        std::thread::sleep(usual.mul_f64(random.below(1000) as f64 / 1000.0));
        all += 1;
        killed += u32::from(child.try_wait().expect("wait").is_none());
        child.kill().expect("kill");
        child.wait().expect("wait");
        env.kiln(&["push", &name]).ok().says(&digest);
        let whole = copied(&env, &name);
        assert_eq!(whole.digest, digest, "seed {seed}");
        if seed % 4 == 0 {
            assert_eq!(whole.umoci_tree(), env.image(&name).umoci_tree(), "seed {seed}");
        }
        assert_eq!(blobs(), before, "seed {seed}: the store");
        env.assert_swept();
        env.kiln(&["rmi", &name]).ok();
        env.kiln(&["prune", "--all"]).ok();
    }
    assert!(killed * 4 > all, "only {killed} of {all} pushes were still running when they were killed");
}

/// Restarts the registry in the middle of a command, after `pause`; what the command says.
fn restarted(registry: &mut Registry, mut child: Child, pause: Duration, begun: impl FnMut() -> bool) -> (i32, String) {
    wait_until(&mut child, begun);
    registry.crash();
    assert!(child.try_wait().expect("wait").is_none(), "it was done before the registry crashed");
    std::thread::sleep(pause);
    registry.come_back();
    let out = child.wait_with_output().expect("wait");
    (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn push_survives_a_restart_of_the_registry() {
    // S-61
    requires!(docker_registry, skopeo);
    let (env, mut registry) = (TestEnv::new(), Registry::start());
    let name = registry.name("app:1");
    let digest = build(&env, &name, 1, LEN);
    let uploads = registry.data();
    let child = env.kiln(&["push", &name]).spawn();
    let (code, said) = restarted(&mut registry, child, Duration::from_millis(300), || largest(&uploads) > 1 << 20);
    assert_eq!(code, 0, "{said}");
    assert_eq!(copied(&env, &name).digest, digest);
}

#[test]
fn pull_survives_a_restart_of_the_registry() {
    // S-61
    requires!(docker_registry, skopeo);
    let (env, mut registry) = (TestEnv::new(), Registry::start());
    let name = registry.name("app:1");
    let digest = build(&env, &name, 2, 4 * LEN);
    env.kiln(&["push", &name]).ok();
    let other = TestEnv::new();
    let store: PathBuf = other.store();
    let child = other.kiln(&["pull", &name]).spawn();
    let (code, said) = restarted(&mut registry, child, Duration::from_millis(300), || largest(&store) > 1 << 20);
    assert_eq!(code, 0, "{said}");
    assert_eq!(other.image(&name).digest, digest);
    other.assert_swept();
}

#[test]
fn registry_that_stays_away_is_named_and_push_can_be_repeated() {
    // S-61
    requires!(docker_registry, skopeo);
    let (env, mut registry) = (TestEnv::new(), Registry::start());
    let name = registry.name("app:1");
    let digest = build(&env, &name, 3, LEN);
    let uploads = registry.data();
    let mut child = env.kiln(&["push", &name]).spawn();
    wait_until(&mut child, || largest(&uploads) > 1 << 20);
    registry.crash();
    let started = Instant::now();
    let out = child.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains(&registry.host()) && said.contains("(tried 5 times)"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    registry.come_back();
    env.kiln(&["push", &name]).ok();
    assert_eq!(copied(&env, &name).digest, digest);
}

#[test]
fn push_mends_what_a_registry_lost_when_it_died() {
    // S-61
    requires!(docker_registry, skopeo);
    let (env, mut registry) = (TestEnv::new(), Registry::start());
    let name = registry.name("app:1");
    let digest = build(&env, &name, 3, 1000);
    env.kiln(&["push", &name]).ok();
    registry.crash();
    let links = registry.data().join("docker/registry/v2/repositories/app/_layers/sha256");
    for layer in std::fs::read_dir(links).expect("its layers") {
        std::fs::write(layer.expect("an entry").path().join("link"), "").expect("write");
    }
    registry.come_back();
    env.kiln(&["push", &name]).ok();
    assert_eq!(copied(&env, &name).digest, digest);
}

#[test]
fn two_pushes_of_one_image_at_once_both_succeed() {
    // O-61
    requires!(docker_registry, skopeo);
    let (env, registry) = (TestEnv::new(), Registry::start());
    let (name, other) = (registry.name("app:1"), registry.name("app:2"));
    let digest = build(&env, &name, 4, LEN / 4);
    env.kiln(&["tag", &name, &other]).ok();
    let pushes = [&name, &other, &name].map(|name| env.kiln(&["push", name]).spawn());
    for push in pushes {
        let out = push.wait_with_output().expect("wait");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(String::from_utf8_lossy(&out.stdout).contains(&digest));
    }
    for name in [&name, &other] {
        assert_eq!(copied(&env, name).digest, digest);
    }
}
