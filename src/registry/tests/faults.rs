//! Broken connections, wrong bytes, wrong labels, hostile responses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

const LAYER: &[u8] = &[7; 100_000];

#[test]
fn unchanged_tag_costs_one_head_request() {
    let image = hosted("linux/amd64", LAYER);
    let server = Server::start({
        let image = image.clone();
        move |r| image.answer(r)
    });
    let (client, store) = (client(), Memory::default());
    let pinned = client.pull(&name(&server), &amd64(), &store, 2).expect("pulled");
    assert_eq!(pinned.target, image.manifest);
    assert_eq!(pinned.reference.to_string(), format!("{}/app:1@{}", server.authority, image.manifest.digest));
    assert!(store.has(&image.layer).expect("has"));
    let before = server.log().len();
    client.pull(&name(&server), &amd64(), &store, 2).expect("pulled again");
    let after: Vec<String> = server.log()[before..].iter().map(|r| format!("{} {}", r.method, r.target)).collect();
    assert_eq!(after, ["HEAD /v2/app/manifests/1"]);
}

#[test]
fn index_gives_the_requested_platform_f6() {
    let (amd, arm) = (hosted("linux/amd64", b"amd"), hosted("linux/arm64", b"arm"));
    let child = |hosted: &Hosted, p: &str| Descriptor { platform: p.parse().ok(), ..hosted.manifest.clone() };
    let index = Index::new(vec![child(&arm, "linux/arm64"), child(&amd, "linux/amd64")]).to_bytes();
    let mut all = amd.clone();
    all.blobs.extend(arm.blobs.clone());
    all.manifest = Descriptor::of(INDEX, &index);
    all.blobs.insert(all.manifest.digest.to_string(), index);
    let server = Server::start(move |r| all.answer(r));
    let store = Memory::default();
    for (platform, want) in [("linux/amd64", &amd), ("linux/arm64", &arm)] {
        let pinned = client().resolve(&name(&server), &platform.parse().expect("platform"), &store).expect("resolved");
        assert_eq!(pinned.image.descriptor.digest, want.manifest.digest);
    }
    let message =
        client().resolve(&name(&server), &Platform::new("linux", "s390x"), &store).expect_err("none").to_string();
    assert!(message.contains("no image for linux/s390x; it has linux/arm64, linux/amd64"), "{message}");
}

#[test]
fn download_resumes_where_it_broke_s61() {
    let image = hosted("linux/amd64", LAYER);
    let blob = image.layer.clone();
    let server = Server::start(move |r| {
        let reply = image.answer(r);
        if !r.target.contains(&image.layer.digest.to_string()) {
            return reply;
        }
        // 30,000 bytes at a time; the announced length stays honest.
        let cut = (reply.body.len() > 30_000).then_some(30_000);
        Reply { cut, ..reply }.with("etag", "\"x\"")
    });
    let store = Memory::default();
    client().pull(&name(&server), &amd64(), &store, 1).expect("pulled");
    assert_eq!(store.0.lock().expect("lock")[&blob.digest], LAYER);
    let asked: Vec<_> =
        server.log().iter().filter(|r| r.target.contains("/blobs/")).filter_map(Request::from).collect();
    assert_eq!(asked, [30_000, 60_000, 90_000]);
    assert_eq!(server.log().last().and_then(|r| r.header("if-range").map(str::to_owned)).as_deref(), Some("\"x\""));
}

#[test]
fn server_without_ranges_is_read_again_s61() {
    let image = hosted("linux/amd64", LAYER);
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |r| {
        let mut reply = image.answer(r);
        if r.target.contains(&image.layer.digest.to_string()) {
            reply = Reply::new(200, LAYER);
            if tries.fetch_add(1, Ordering::SeqCst) < 2 {
                reply.cut = Some(50_000);
            }
        }
        reply
    });
    client().pull(&name(&server), &amd64(), &Memory::default(), 1).expect("pulled");
}

#[test]
fn stalled_download_fails_s61() {
    let image = hosted("linux/amd64", LAYER);
    let server = Server::start(move |r| {
        let reply = image.answer(r);
        let stall = if r.target.contains(&image.layer.digest.to_string()) { 5000 } else { 0 };
        Reply { stall: Duration::from_millis(stall), ..reply }
    });
    let started = Instant::now();
    let error = client().pull(&name(&server), &amd64(), &Memory::default(), 1).expect_err("stalls");
    assert!(matches!(&error, RegistryError::Http(HttpError::Network { attempts: 3, .. })), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn slow_download_fails_s61() {
    let image = hosted("linux/amd64", LAYER);
    for part in ["/blobs/", "/manifests/"] {
        let image = image.clone();
        let server = Server::start(move |r| {
            let drip = r.method == "GET" && r.target.contains(part);
            Reply { drip: drip.then_some(Duration::from_millis(50)), ..image.answer(r) }
        });
        let started = Instant::now();
        let error = client().pull(&name(&server), &amd64(), &Memory::default(), 1).expect_err("drips").to_string();
        // A server that trickles gets as many chances as one that breaks.
        assert!(error.starts_with(&format!("http://{}/v2/app{part}", server.authority)), "{error}");
        assert!(error.contains(": too slow: ") && error.contains(" bytes in 400ms"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }
}

#[test]
fn wrong_bytes_never_reach_the_store_s50() {
    let image = hosted("linux/amd64", LAYER);
    for change in ["flip", "short", "long"] {
        let image = image.clone();
        let layer = image.layer.clone();
        let server = Server::start(move |r| {
            let mut reply = image.answer(r);
            if r.target.contains(&image.layer.digest.to_string()) {
                match change {
                    "flip" => reply.body[99_999] ^= 1,
                    "short" => reply.body.truncate(99_999),
                    _ => reply.body.push(0),
                }
            }
            reply
        });
        let store = Memory::default();
        let error = client().pull(&name(&server), &amd64(), &store, 1).expect_err(change);
        assert!(
            matches!(error, RegistryError::WrongContent { .. } | RegistryError::Http(HttpError::Protocol { .. })),
            "{change}: {error:?}"
        );
        assert!(!store.has(&layer).expect("has"));
    }
}

#[test]
fn wrong_digest_header_is_ignored_s51() {
    let image = hosted("linux/amd64", LAYER);
    let want = image.manifest.digest;
    let server = Server::start(move |r| {
        let mut reply = image.answer(r);
        let lie = Sha256::of(b"something else").to_string();
        reply.headers.retain(|(name, _)| *name != "docker-content-digest");
        reply.with("docker-content-digest", lie)
    });
    let pinned = client().resolve(&name(&server), &amd64(), &Memory::default()).expect("by tag: the body decides");
    assert_eq!(pinned.target.digest, want);
}

#[test]
fn manifest_by_digest_must_have_the_digest_s51() {
    let (image, other) = (hosted("linux/amd64", LAYER), hosted("linux/amd64", b"other"));
    let digest = image.manifest.digest;
    let server = Server::start(move |r| {
        let bytes = other.blobs[&other.manifest.digest.to_string()].clone();
        if r.target.contains("/manifests/") {
            Reply::new(200, bytes).with("content-type", MANIFEST)
        } else {
            image.answer(r)
        }
    });
    let pinned = Reference { tag: None, digest: Some(digest), ..name(&server) };
    let message = client().resolve(&pinned, &amd64(), &Memory::default()).expect_err("mismatch").to_string();
    assert!(
        message.contains(&format!("wrong content from {}: digest mismatch: want {digest}, got ", server.authority))
    );
}

#[test]
fn oversized_manifests_are_not_read_s53() {
    let server = Server::start(|r| match r.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => Reply { length: Some(usize::MAX / 2), ..Reply::new(200, vec![b' '; 1 << 16]) }
            .with("content-type", MANIFEST),
    });
    let started = Instant::now();
    for _ in 0..2 {
        let message = client().resolve(&name(&server), &amd64(), &Memory::default()).expect_err("large").to_string();
        assert!(message.contains("405") || message.contains("larger than 4194304 bytes"), "{message}");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn only_transient_errors_are_retried_s61() {
    for (status, tries) in [(503, 3), (429, 3), (500, 3), (400, 1), (405, 1), (418, 1)] {
        let server = Server::start(move |_| Reply::new(status, r#"{"errors":[{"code":"X","message":"the reason"}]}"#));
        let repository_name = name(&server);
        let client = client();
        let error = client.repository_to_push_to(&repository_name).manifest_by_tag("1").expect_err("fails");
        let tried = if tries > 1 { format!(" (tried {tries} times)") } else { String::new() };
        assert!(error.to_string().ends_with(&format!("{status}: the reason{tried}")), "{error}");
        assert_eq!(server.log().len(), tries, "{status}");
    }
}

#[test]
fn retry_after_is_respected_up_to_a_limit_s61() {
    let image = hosted("linux/amd64", LAYER);
    for (after, works) in [("1", true), ("100", false)] {
        let image = image.clone();
        let tries = AtomicUsize::new(0);
        let server = Server::start(move |r| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::new(429, "slow down").with("retry-after", after),
            _ => image.answer(r),
        });
        let started = Instant::now();
        let result = client().resolve(&name(&server), &amd64(), &Memory::default());
        assert_eq!(result.is_ok(), works, "{result:?}");
        assert!(!works || started.elapsed() >= Duration::from_secs(1));
    }
}

#[test]
fn missing_image_and_closed_port_are_told_apart() {
    let image = hosted("linux/amd64", LAYER);
    let server = Server::start(move |r| image.answer(r));
    let missing: Reference = format!("{}/app:2", server.authority).parse().expect("reference");
    let error = client().resolve(&missing, &amd64(), &Memory::default()).expect_err("missing");
    assert_eq!(error.to_string(), format!("{0}/app:2: not found on {0}", server.authority));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let closed = listener.local_addr().expect("address");
    drop(listener);
    let nobody: Reference = format!("{closed}/app:1").parse().expect("reference");
    let started = Instant::now();
    let message = client().resolve(&nobody, &amd64(), &Memory::default()).expect_err("refused").to_string();
    assert!(message.ends_with("connection refused"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn mislabelled_and_ambiguous_documents_are_refused_s54() {
    let image = hosted("linux/amd64", LAYER);
    let bytes = image.blobs[&image.manifest.digest.to_string()].clone();
    let text = String::from_utf8(bytes).expect("json");
    let both = text.replacen('{', r#"{"manifests":[],"#, 1);
    let schema1 = r#"{"schemaVersion":1,"fsLayers":[],"history":[],"signatures":[]}"#.to_owned();
    for (label, body) in [(INDEX, text.clone()), (MANIFEST, both), (MANIFEST, schema1), (MANIFEST, "[]".to_owned())] {
        let server = Server::start(move |r| match r.method.as_str() {
            "HEAD" => Reply::new(200, "").with("content-type", label),
            _ => Reply::new(200, body.clone()).with("content-type", label),
        });
        assert!(client().resolve(&name(&server), &amd64(), &Memory::default()).is_err());
    }
}

#[test]
fn redirects_drop_credentials_and_end_s58() {
    let image = hosted("linux/amd64", LAYER);
    let cdn = Server::start({
        let image = image.clone();
        move |r| image.answer(r)
    });
    let target = cdn.authority.clone();
    let server = Server::start(move |r| {
        let authorized = r.header("authorization").is_some();
        match (authorized, r.target.contains("/blobs/")) {
            (false, _) => Reply::new(401, "").with("www-authenticate", "Basic realm=x"),
            (true, true) => Reply::new(307, "").with("location", format!("http://{target}{}?sig=1", r.target)),
            (true, false) => image.answer(r),
        }
    });
    let mut credentials = Credentials::none();
    let json = format!(r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#, server.authority);
    credentials.add("test", json.as_bytes());
    let client = Client::new(Options { credentials, timing: short_timing(), ..Options::default() });
    // The signature in the query is not part of the blob's name.
    let error = client.pull(&name(&server), &amd64(), &Memory::default(), 1);
    assert!(cdn.count("GET", "/blobs/") >= 1);
    assert!(cdn.log().iter().all(|r| r.header("authorization").is_none()), "credentials went elsewhere");
    assert!(error.is_err(), "the cdn does not know the target with its query");

    let looping = Server::start(|r| Reply::new(302, "").with("location", r.target.clone()));
    let message = client_error(&looping);
    assert!(message.contains("more than 10 redirects"), "{message}");
    let local = Server::start(|_| Reply::new(302, "").with("location", "file:///etc/passwd"));
    let message = client_error(&local);
    assert!(message.contains("not an http or https URL"), "{message}");
}

fn client_error(server: &Server) -> String {
    client().resolve(&name(server), &amd64(), &Memory::default()).expect_err("fails").to_string()
}

#[test]
fn foreign_layer_urls_are_not_followed_s57() {
    let elsewhere = Server::start(|_| Reply::new(200, LAYER));
    let image = hosted("linux/amd64", LAYER);
    let server = Server::start(move |r| match r.target.contains("/blobs/") {
        true => Reply::new(404, ""),
        false => image.answer(r),
    });
    let layer = Descriptor {
        urls: vec![format!("http://{}/layer", elsewhere.authority)],
        ..Descriptor::of("application/vnd.oci.image.layer.nondistributable.v1.tar", LAYER)
    };
    let message = client().fetch(&name(&server), &[layer], &Memory::default(), 1).expect_err("missing").to_string();
    assert!(message.contains("a foreign layer"), "{message}");
    assert_eq!(elsewhere.log().len(), 0);
}

#[test]
fn refused_head_request_is_explained_once_by_get() {
    for (status, retry_after, tries, want) in [
        (429, "86400", 1, "429: slow down (the server asks to wait 86400 s)"),
        (429, "0", 3, "429: slow down (tried 3 times)"),
        (503, "2", 1, "503: slow down (the server asks to wait 2 s)"),
    ] {
        let server = Server::start(move |_| {
            Reply::new(status, r#"{"errors":[{"code":"X","message":"slow down"}]}"#).with("retry-after", retry_after)
        });
        let store = Memory::default();
        let known = Descriptor::of(LAYER_TAR, LAYER);
        store.accept(&known, &mut &LAYER[..]).expect("stored");
        let error = client().resolve(&name(&server), &amd64(), &store).expect_err("refused").to_string();
        assert_eq!(error, format!("http://{}/v2/app/manifests/1: {want}", server.authority));
        assert_eq!((server.count("HEAD", ""), server.count("GET", "")), (tries, 1), "{status} {retry_after}");
        let name = name(&server);
        let error = client().repository_to_push_to(&name).has_blob(&known).expect_err("refused").to_string();
        assert_eq!(error, format!("http://{}/v2/app/blobs/{}: {want}", server.authority, known.digest));
        assert_eq!((server.count("HEAD", "blobs"), server.count("GET", "blobs")), (tries, 1), "{status} {retry_after}");
        assert_eq!(
            server.log().last().and_then(|r| r.header("range").map(str::to_owned)).as_deref(),
            Some("bytes=0-0")
        );
    }
}

#[test]
fn cancelled_client_stops_at_once() {
    let server = Server::start(|_| Reply { stall: Duration::from_secs(5), ..Reply::new(503, "") });
    let client = Client::new(Options::default());
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            client.cancel();
        });
        let error = client.resolve(&name(&server), &amd64(), &Memory::default()).expect_err("cancelled");
        assert!(error.is_cancelled(), "{error:?}");
    });
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
