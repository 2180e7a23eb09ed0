//! Test faulty registries: corrupt and missing blobs, broken connections, missing hosts, mirrors (S-50, S-61).

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::env::fixture;
use crate::support::{Image, Registry, TestEnv};

fn served() -> (Registry, String) {
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    (registry, name)
}

/// The file in which the registry stores a blob.
fn kept(registry: &Registry, digest: &str) -> PathBuf {
    let hex = &digest["sha256:".len()..];
    registry.data().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

fn layer() -> String {
    let image = Image::open(&fixture("busybox").join("layout"), "latest:latest");
    image.manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned()
}

#[test]
fn corrupt_blobs_never_reach_the_store() {
    // S-50
    requires!(docker_registry, skopeo);
    let (registry, name) = served();
    let env = TestEnv::new();
    let (digest, context) = (layer(), env.context(&format!("-- Dockerfile --\nFROM {name}\nCOPY Dockerfile /\n")));
    let file = kept(&registry, &digest);
    let good = fs::read(&file).expect("the registry's copy");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for bad in [&good[..good.len() / 2], &[&good[..], b"more"].concat(), &flipped, b""] {
        fs::write(&file, bad).expect("write");
        let said = env.build(&["-t", "app"], &context).output();
        assert!(matches!(said.code, 1 | 3), "{said}");
        said.says(&digest[..20]);
        assert!(!env.store().join("blobs/sha256").join(&digest[7..]).exists(), "{said}");
        env.kiln(&["inspect", "app"]).fails(1);
        env.assert_swept();
    }
    fs::remove_file(&file).expect("remove");
    env.build(&["-t", "app"], &context).fails(1).says("not found on 127.0.0.1");
    fs::write(&file, &good).expect("write");
    env.build(&["-t", "app"], &context).ok();
    env.image("app").tree();
}

/// A fault of a response.
#[derive(Clone, Copy)]
enum Fault {
    Cut,
    Pause(Duration),
}

/// Forwards connections to a registry, and cuts off or delays the first `cuts` responses that reach `after` bytes.
fn unreliable(to: &str, fault: Fault, cuts: usize, after: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let host = listener.local_addr().expect("an address").to_string();
    let cut = Arc::new(AtomicUsize::new(0));
    let (to, count) = (to.to_owned(), Arc::clone(&cut));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&to).expect("the registry");
            let (mut up_from, mut up_to) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
            std::thread::spawn(move || {
                std::io::copy(&mut up_from, &mut up_to).ok();
                up_to.shutdown(Shutdown::Write).ok();
            });
            let count = Arc::clone(&count);
            std::thread::spawn(move || passed(server, client, fault, &count, cuts, after));
        }
    });
    (host, cut)
}

fn passed(mut server: TcpStream, mut client: TcpStream, fault: Fault, count: &AtomicUsize, cuts: usize, after: usize) {
    let (mut buffer, mut total) = ([0; 8192], 0);
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        total += n;
        let over = total > after && count.load(Ordering::SeqCst) < cuts;
        if over {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if over && let Fault::Pause(pause) = fault {
            std::thread::sleep(pause);
        }
        if over && matches!(fault, Fault::Cut) || client.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
}

#[test]
fn broken_download_is_resumed() {
    // S-61
    requires!(docker_registry, skopeo);
    let (registry, name) = served();
    let (host, cuts) = unreliable(&registry.host(), Fault::Cut, 3, 200_000);
    let through = name.replace(&registry.host(), &host);
    let env = TestEnv::new();
    env.kiln(&["pull", &through]).ok();
    assert_eq!(cuts.load(Ordering::SeqCst), 3);
    assert_eq!(env.image(&through).digest, Image::open(&fixture("busybox").join("layout"), "latest:latest").digest);
}

#[test]
fn build_shows_progress_of_slow_download() {
    requires!(docker_registry, skopeo);
    let (registry, name) = served();
    let (host, _) = unreliable(&registry.host(), Fault::Pause(Duration::from_millis(2500)), 1, 200_000);
    let env = TestEnv::new();
    let file = |host| format!("-- Dockerfile --\nFROM {}\nCOPY Dockerfile /\n", name.replace(&registry.host(), host));
    let slow = env.build(&["--progress", "plain"], &env.context(&file(&host))).ok();
    slow.says(" fetched ");
    let quick = TestEnv::new();
    let quick = quick.build(&["--progress", "plain"], &quick.context(&file(&registry.host()))).ok();
    assert!(quick.to_string().contains(" fetching ") && !quick.to_string().contains(" fetched "), "{quick}");
}

#[test]
fn repeatedly_broken_download_fails_naming_host() {
    // S-61
    requires!(docker_registry, skopeo);
    let (registry, name) = served();
    // Responses never get beyond their headers, so that retries make no progress.
    let (host, _) = unreliable(&registry.host(), Fault::Cut, usize::MAX, 1);
    let env = TestEnv::new();
    let done = env.kiln(&["pull", &name.replace(&registry.host(), &host)]).fails(3);
    done.says(&host).says("tried");
    assert!(done.took.as_secs() < 90, "{done}");
    env.assert_swept();
}

#[test]
fn mirror_is_used_first_and_registry_is_fallback() {
    requires!(userns, overlay, docker_registry, skopeo);
    let ((origin, name), (mirror, same)) = (served(), served());
    let pull = |env: &TestEnv, host: &str| {
        let done = env.kiln(&["pull", "--registry-mirror", &format!("{}={host}", origin.host()), &name]).output();
        assert_eq!(done.code, 0, "{done}");
        env.image(&name).tree();
        done
    };
    // The mirror is unreachable, has corrupt blobs, or lacks the image: the registry itself is used.
    let free = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("an address").to_string();
    pull(&TestEnv::new(), &free).says(&format!("note: mirror {free} failed: "));
    let file = kept(&mirror, &layer());
    let good = fs::read(&file).expect("the mirror's copy");
    fs::write(&file, vec![0; good.len()]).expect("write");
    pull(&TestEnv::new(), &mirror.host()).says(" failed: ").says("digest mismatch");
    pull(&TestEnv::new(), &Registry::start().host()).says(" failed: ").says("not found on");
    // With a working mirror, the registry itself is not needed.
    fs::write(&file, &good).expect("write");
    let env = TestEnv::new();
    let gone = origin.host();
    drop(origin);
    let flag = format!("{gone}={}", mirror.host());
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nCOPY Dockerfile /\n"));
    env.build(&["--registry-mirror", &flag, "-t", "app"], &context).ok().never_says(" failed: ");
    assert!(env.image("app").tree().0.contains_key("bin/busybox"));
    env.kiln(&["run", "--pull=always", &name, "true"]).fails(125).says("connection refused");
    env.kiln(&["run", "--pull=always", "--registry-mirror", &flag, &name, "true"]).ok();
    assert_ne!(same, name);
    env.kiln(&["pull", "--registry-mirror", "https://x", "busybox"]).fails(2).says("without a scheme");
}

#[test]
fn missing_image_or_host_is_named_with_location() {
    requires!(docker_registry, skopeo);
    let (registry, _) = served();
    let env = TestEnv::new();
    let context = |name: &str| env.context(&format!("-- Dockerfile --\nFROM {name}\nCOPY Dockerfile /\n"));
    let missing = registry.name("base:2");
    env.build(&[], &context(&missing)).fails(1).says("neither the store nor").says("Dockerfile:1:6").says(&missing);
    env.build(&[], &context(&registry.name("nothing"))).fails(1).says("neither the store nor");
    let free = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("an address").port();
    env.build(&[], &context(&format!("127.0.0.1:{free}/x"))).fails(3).says(&format!("127.0.0.1:{free}"));
    env.build(&["--pull=false"], &context("registry.invalid/x")).fails(3).says("registry.invalid");
    env.kiln(&["pull", "base/UPPER"]).fails(2);
    env.assert_swept();
}
