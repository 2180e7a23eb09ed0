//! Pushing to servers that break, refuse, redirect and forget.

use std::collections::BTreeMap;

use super::*;

const LAYER: &[u8] = &[7; 100_000];

/// A registry that takes uploads, and what it does to them.
#[derive(Default)]
struct Taking {
    uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    stored: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Taking {
    /// The response of a correct registry.
    fn answer(&self, r: &Request) -> Reply {
        let path = r.target.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let (mut uploads, mut stored) = (self.uploads.lock().expect("lock"), self.stored.lock().expect("lock"));
        let body = r.body.as_bytes();
        match r.method.as_str() {
            "HEAD" if stored.contains_key(last) => Reply::new(200, ""),
            "HEAD" => Reply::new(404, ""),
            "POST" => {
                let id = format!("u{}", uploads.len());
                uploads.insert(id.clone(), Vec::new());
                Reply::new(202, "").with("location", format!("/v2/app/blobs/uploads/{id}?state=x"))
            }
            "GET" => match uploads.get(last) {
                Some(got) if !got.is_empty() => Reply::new(204, "").with("range", format!("0-{}", got.len() - 1)),
                Some(_) => Reply::new(204, "").with("range", "0-0"),
                None => Reply::new(404, ""),
            },
            "PUT" if path.contains("/manifests/") => {
                let digest = BlobDigest(Sha256::of(body)).to_string();
                stored.insert(last.to_owned(), body.to_vec());
                Reply::new(201, "").with("docker-content-digest", digest)
            }
            "PATCH" | "PUT" => {
                let Some(mut whole) = uploads.remove(last) else { return Reply::new(404, "") };
                whole.extend_from_slice(body);
                if r.method == "PATCH" {
                    uploads.insert(last.to_owned(), whole);
                    return Reply::new(202, "").with("location", format!("{path}?state=y"));
                }
                let digest = r.target.split("digest=").nth(1).unwrap_or_default().to_owned();
                assert_eq!(BlobDigest(Sha256::of(&whole)).to_string(), digest, "an upload is complete");
                stored.insert(digest, whole);
                Reply::new(201, "")
            }
            _ => Reply::new(405, ""),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.stored.lock().expect("lock").contains_key(key)
    }
}

/// Counts what a push reports.
#[derive(Default)]
struct Seen {
    holders: Vec<String>,
    arrivals: Mutex<Vec<Arrival>>,
    sent: Mutex<u64>,
}

impl PushObserver for Seen {
    fn begins(&self, _: u64) {}

    fn holders(&self, _: &Descriptor) -> Vec<String> {
        self.holders.clone()
    }

    fn sent(&self, bytes: u64) {
        *self.sent.lock().expect("lock") += bytes;
    }

    fn arrived(&self, _: &Descriptor, arrival: Arrival) {
        self.arrivals.lock().expect("lock").push(arrival);
    }
}

/// An image in a store.
fn stored() -> (Memory, Hosted) {
    let image = hosted("linux/amd64", LAYER);
    let blobs = image.blobs.iter().map(|(digest, bytes)| (digest.parse().expect("digest"), bytes.clone())).collect();
    (Memory(Mutex::new(blobs)), image)
}

/// Pushes to a registry whose answers `meddle` may replace.
fn push_to(
    meddle: impl Fn(&Request, &Taking) -> Option<Reply> + Send + Sync + 'static,
    seen: &Seen,
) -> (Server, std::sync::Arc<Taking>, Result<(), RegistryError>) {
    let (store, image) = stored();
    let taking = std::sync::Arc::new(Taking::default());
    let server = Server::start({
        let taking = std::sync::Arc::clone(&taking);
        move |r| meddle(r, &taking).unwrap_or_else(|| taking.answer(r))
    });
    let pushed = client().push(&name(&server), &image.manifest, &store, seen);
    (server, taking, pushed)
}

#[test]
fn push_sends_blobs_then_the_tag_o61() {
    let seen = Seen::default();
    let (server, taking, pushed) = push_to(|_, _| None, &seen);
    pushed.expect("pushed");
    let (_, image) = stored();
    assert!(image.blobs.keys().filter(|key| **key != image.manifest.digest.to_string()).all(|key| taking.has(key)));
    let last = server.log().pop().expect("a request");
    assert_eq!((last.method.as_str(), last.target.as_str()), ("PUT", "/v2/app/manifests/1"));
    assert_eq!(last.header("content-type"), Some(MANIFEST));
    assert_eq!(*seen.arrivals.lock().expect("lock"), [Arrival::Uploaded, Arrival::Uploaded]);
    // One request for each blob, with its length.
    assert_eq!(server.count("PUT", "/blobs/uploads/"), 2);
    assert!(server.log().iter().any(|r| r.method == "PUT" && r.header("content-length") == Some("100000")));
}

#[test]
fn blob_that_is_there_is_not_sent() {
    let seen = Seen::default();
    let there = |r: &Request, _: &Taking| (r.method == "HEAD").then(|| Reply::new(200, ""));
    let (server, _, pushed) = push_to(there, &seen);
    pushed.expect("pushed");
    assert_eq!(server.count("POST", "") + server.count("PUT", "/blobs/"), 0);
    assert_eq!(*seen.arrivals.lock().expect("lock"), [Arrival::Present, Arrival::Present]);
}

#[test]
fn blob_is_mounted_from_another_repository() {
    for (status, want) in [(201, Arrival::Mounted), (202, Arrival::Uploaded), (403, Arrival::Uploaded)] {
        let seen = Seen { holders: vec!["base/debian".to_owned()], ..Seen::default() };
        let mount = move |r: &Request, taking: &Taking| {
            let asked = r.target.contains("mount=sha256:") && r.target.contains("from=base/debian");
            (asked && status != 202).then(|| Reply::new(status, "")).or_else(|| Some(taking.answer(r)))
        };
        let (_, _, pushed) = push_to(mount, &seen);
        pushed.expect("pushed");
        assert_eq!(*seen.arrivals.lock().expect("lock"), [want, want], "{status}");
    }
}

#[test]
fn broken_upload_continues_where_the_registry_is_s61() {
    let (seen, broken) = (Seen::default(), Mutex::new(false));
    let break_once = move |r: &Request, taking: &Taking| {
        let large = r.method == "PUT" && r.body.len() == LAYER.len();
        if !large || std::mem::replace(&mut *broken.lock().expect("lock"), true) {
            return None;
        }
        let id = r.target.split('?').next()?.rsplit('/').next()?.to_owned();
        taking.uploads.lock().expect("lock").insert(id, LAYER[..30_000].to_vec());
        Some(Reply { cut: Some(0), ..Reply::new(500, "x") })
    };
    let (server, _, pushed) = push_to(break_once, &seen);
    pushed.expect("pushed");
    let patches: Vec<_> = server.log().into_iter().filter(|r| r.method == "PATCH").collect();
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].header("content-range"), Some("30000-99999"));
    assert_eq!(patches[0].header("content-length"), Some("70000"));
}

#[test]
fn forgotten_upload_begins_anew_s61() {
    let (seen, forgotten) = (Seen::default(), Mutex::new(false));
    let forget_once = move |r: &Request, taking: &Taking| {
        let large = r.method == "PUT" && r.body.len() == LAYER.len();
        if !large || std::mem::replace(&mut *forgotten.lock().expect("lock"), true) {
            return None;
        }
        let id = r.target.split('?').next()?.rsplit('/').next()?;
        taking.uploads.lock().expect("lock").remove(id);
        Some(Reply::new(404, ""))
    };
    let (server, _, pushed) = push_to(forget_once, &seen);
    pushed.expect("pushed");
    assert_eq!(server.count("POST", "/blobs/uploads/"), 3, "twice the layer, once the config");
}

#[test]
fn large_body_that_is_refused_goes_in_pieces() {
    let seen = Seen::default();
    let refuse = |r: &Request, _: &Taking| {
        (r.method == "PUT" && r.body.len() == LAYER.len()).then(|| Reply::new(413, "too large"))
    };
    let (server, _, pushed) = push_to(refuse, &seen);
    pushed.expect("pushed");
    let patch = server.log().into_iter().find(|r| r.method == "PATCH").expect("a piece");
    assert_eq!(patch.header("content-range"), Some("0-99999"));
}

#[test]
fn upload_address_elsewhere_gets_no_credentials_s59() {
    let elsewhere = Server::start(|_| Reply::new(201, ""));
    let at = format!("http://{}/put?sig=1", elsewhere.authority);
    let (store, image) = stored();
    let server = Server::start(move |r| match (r.method.as_str(), r.header("authorization")) {
        ("HEAD", Some(_)) => Reply::new(404, ""),
        (_, None) => Reply::new(401, "").with("www-authenticate", "Basic realm=x"),
        ("POST", _) => Reply::new(202, "").with("location", at.clone()),
        _ => Reply::new(201, ""),
    });
    let mut credentials = Credentials::none();
    let auth = format!(r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#, server.authority);
    credentials.add("config.json", auth.as_bytes());
    let client = Client::new(Options { credentials, timing: short_timing(), ..Options::default() });
    client.push(&name(&server), &image.manifest, &store, &Seen::default()).expect("pushed");
    assert_eq!(elsewhere.log().len(), 2);
    assert!(elsewhere.log().iter().all(|r| r.header("authorization").is_none()));
    assert!(elsewhere.log().iter().all(|r| r.target.starts_with("/put?sig=1&digest=sha256:")));
}

#[test]
fn refusals_name_what_was_refused() {
    for (status, reply, want) in [
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#,
            "denied access (no credentials for it): 403 read only",
        ),
        (400, r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no such media type"}]}"#, "400: no such media type"),
        (404, "", "not found on"),
    ] {
        let refuse = move |r: &Request, _: &Taking| r.target.contains("/manifests/").then(|| Reply::new(status, reply));
        let message = push_to(refuse, &Seen::default()).2.expect_err("refused").to_string();
        assert!(message.contains("/app:1") || message.contains("/v2/app/manifests/1"), "{message}");
        assert!(message.contains(want), "{message}");
    }
    let other = |r: &Request, _: &Taking| {
        let digest = format!("sha256:{}", "0".repeat(64));
        r.target.contains("/manifests/").then(|| Reply::new(201, "").with("docker-content-digest", digest))
    };
    let message = push_to(other, &Seen::default()).2.expect_err("another digest").to_string();
    assert!(message.contains("stored the manifest as sha256:000"), "{message}");
}

#[test]
fn token_of_a_mount_covers_both_repositories() {
    let (store, image) = stored();
    let server = Server::start(|r| match (r.target.as_str(), r.header("authorization")) {
        (target, _) if target.starts_with("/token") => {
            Reply::new(200, format!(r#"{{"token":"{}"}}"#, target.matches("scope=").count()))
        }
        ("/v2/app/manifests/1", _) => Reply::new(201, ""),
        (target, Some(token)) if target.contains("mount=") => {
            Reply::new(if token == "Bearer 2" { 201 } else { 500 }, "")
        }
        (_, Some("Bearer 1")) => Reply::new(404, ""),
        _ => {
            let realm = format!("http://{}/token", r.header("host").unwrap_or_default());
            let challenge = format!(r#"Bearer realm="{realm}",service="s",scope="repository:app:pull,push""#);
            Reply::new(401, "").with("www-authenticate", challenge)
        }
    });
    let seen = Seen { holders: vec!["base".to_owned()], ..Seen::default() };
    client().push(&name(&server), &image.manifest, &store, &seen).expect("pushed");
    assert_eq!(*seen.arrivals.lock().expect("lock"), [Arrival::Mounted, Arrival::Mounted]);
    let asked: Vec<String> = server.log().into_iter().map(|r| r.target).filter(|t| t.starts_with("/token")).collect();
    assert!(
        asked.iter().any(|t| t.contains("scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull")),
        "{asked:?}"
    );
}

#[test]
fn unreadable_blob_is_the_stores_fault_and_not_the_networks() {
    let (store, image) = stored();
    store.0.lock().expect("lock").remove(&image.layer.digest);
    let server = Server::start({
        let taking = Taking::default();
        move |r| taking.answer(r)
    });
    let error = client().push(&name(&server), &image.manifest, &store, &Seen::default()).expect_err("missing");
    assert!(error.to_string().contains(&image.layer.digest.to_string()), "{error}");
    assert_eq!(server.count("PUT", "/manifests/"), 0);
}

#[test]
fn registry_that_is_silent_or_trickles_is_given_up_s61() {
    let started = std::time::Instant::now();
    // It takes the blob, and never says so.
    let silent = |r: &Request, _: &Taking| {
        let late = Duration::from_secs(60);
        (r.method == "PUT" && r.body.len() == LAYER.len()).then(|| Reply { late, ..Reply::new(201, "") })
    };
    let seen = Seen::default();
    let (server, _, pushed) = push_to(silent, &seen);
    let message = pushed.expect_err("silent").to_string();
    let want = format!("http://{}/v2/app/blobs/uploads/", server.authority);
    assert!(message.starts_with(&want) && message.ends_with("(tried 3 times)"), "{message}");
    // It opens an upload after an endless pause.
    let silent = |r: &Request, _: &Taking| {
        let late = Duration::from_secs(60);
        (r.method == "POST").then(|| Reply { late, ..Reply::new(202, "") })
    };
    let (server, _, pushed) = push_to(silent, &seen);
    let message = pushed.expect_err("silent").to_string();
    let url = format!("http://{}/v2/app/blobs/uploads/", server.authority);
    assert!(message.starts_with(&format!("{url}: timeout")) && message.ends_with(" (tried 3 times)"), "{message}");
    // Its error trickles: what arrived in time is shown.
    let drips = |r: &Request, _: &Taking| {
        let drip = Some(Duration::from_millis(50));
        (r.method == "POST").then(|| Reply { drip, ..Reply::new(400, "explained at length") })
    };
    let (server, _, pushed) = push_to(drips, &seen);
    let message = pushed.expect_err("drips").to_string();
    let url = format!("http://{}/v2/app/blobs/uploads/: 400: expl", server.authority);
    assert!(message.starts_with(&url) && message.len() < url.len() + 10, "{message}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
