//! Test what `pull` and `push` say about registries that misbehave: the whole message of each kind of fault (S-50…S-65).
//!
//! `testdata/registry/messages` has, for each case, the exit code and what was said; `BLESS=1` writes it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::hostile::{EMPTY, INDEX, MANIFEST, descriptor, image};
use crate::support::env::testdata;
use crate::support::image::sha256;
use crate::support::{Golden, Reply, Request, Server, TestEnv};

/// User `u` with the password `p-canary`.
const AUTH: &str = "dTpwLWNhbmFyeQ==";
/// A token server on a host that is not this one.
const CLEAR_REALM: &str = r#"Bearer realm="http://tokens.example/token",service="s""#;

/// Documents and blobs by the end of their path.
type Files = BTreeMap<String, Reply>;

/// One case: its name, the command, whether it has credentials, and the registry.
struct Case {
    name: &'static str,
    command: &'static str,
    credentials: bool,
    registry: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
}

fn manifest(bytes: &[u8]) -> Reply {
    Reply::new(200, bytes).with("content-type", MANIFEST)
}

/// A correct image `app:1`, and the name of its layer's and config's blob.
fn good() -> (Files, String, String, Vec<u8>) {
    let (config, document) = image(&EMPTY, &format!("sha256:{}", sha256(&EMPTY)));
    let [layer_key, config_key] = [&EMPTY[..], &config].map(|bytes| format!("sha256:{}", sha256(bytes)));
    let files = Files::from([
        (layer_key.clone(), Reply::new(200, EMPTY)),
        (config_key.clone(), Reply::new(200, config)),
        (format!("sha256:{}", sha256(&document)), manifest(&document)),
        ("1".to_owned(), manifest(&document)),
    ]);
    (files, layer_key, config_key, document)
}

fn serves(files: Files) -> Box<dyn Fn(&Request) -> Reply + Send + Sync> {
    Box::new(move |request| {
        let key = request.target.rsplit('/').next().unwrap_or_default();
        files.get(key).cloned().unwrap_or_else(|| Reply::new(404, ""))
    })
}

/// A pull of the good image after a change.
fn pull(name: &'static str, change: impl FnOnce(&mut Files, &str, &str, &[u8])) -> Case {
    let (mut files, layer, config, document) = good();
    change(&mut files, &layer, &config, &document);
    Case { name, command: "pull", credentials: false, registry: serves(files) }
}

/// A pull of a changed manifest.
fn pull_of(name: &'static str, change: impl FnOnce(&mut Value)) -> Case {
    pull(name, |files, _, _, document| {
        let mut changed: Value = serde_json::from_slice(document).expect("JSON");
        change(&mut changed);
        files.insert("1".to_owned(), Reply::new(200, changed.to_string()));
    })
}

/// A command against a registry that answers everything the same way.
fn always(name: &'static str, command: &'static str, credentials: bool, reply: Reply) -> Case {
    Case { name, command, credentials, registry: Box::new(move |_| reply.clone()) }
}

/// A push to a registry that is right, except where `fault` says otherwise.
fn push(name: &'static str, fault: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Case {
    let registry = move |request: &Request| {
        fault(request).unwrap_or_else(|| match request.method.as_str() {
            "POST" => Reply::new(202, "").with("location", "/v2/app/blobs/uploads/u?state=x"),
            "PUT" | "PATCH" => Reply::new(201, "").with("location", "/v2/app/blobs/uploads/u?state=y"),
            _ => Reply::new(404, ""),
        })
    };
    Case { name, command: "push", credentials: false, registry: Box::new(registry) }
}

fn listed(code: &str, message: &str) -> String {
    json!({ "errors": [{ "code": code, "message": message }] }).to_string()
}

fn wrong_bytes() -> Vec<Case> {
    vec![
        pull("S-50 pull: a layer has other bytes", |files, layer, _, _| {
            files.insert(layer.to_owned(), Reply::new(200, [1; 1024]));
        }),
        pull("S-50 pull: a layer is shorter", |files, layer, _, _| {
            files.insert(layer.to_owned(), Reply::new(200, [0; 1000]));
        }),
        pull("S-50 pull: the config has other bytes", |files, _, config, _| {
            let size = files[config].body.len();
            files.insert(config.to_owned(), Reply::new(200, vec![b' '; size]));
        }),
        pull_of("S-53 pull: the manifest is too large", |document| document["padding"] = json!("x".repeat(5 << 20))),
        pull_of("S-53 pull: the config is too large", |document| document["config"]["size"] = json!(100 << 20)),
        pull_of("S-54 pull: manifest and index at once", |document| document["manifests"] = json!([])),
        pull_of("S-54 pull: labelled as an index", |document| document["mediaType"] = json!(INDEX)),
        pull_of("S-54 pull: of another type", |document| document["mediaType"] = json!("text/html")),
        pull_of("S-54 pull: an artifact", |document| {
            document["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
        }),
        pull_of("S-54 pull: schema 1", |document| *document = json!({ "schemaVersion": 1, "fsLayers": [] })),
        pull_of("S-54 pull: a web page", |document| *document = json!("<html>")),
        pull_of("S-56 pull: more layers than diff-ids", |document| {
            let layer = document["layers"][0].clone();
            document["layers"].as_array_mut().expect("layers").push(layer);
        }),
        pull("S-57 pull: a foreign layer", |files, layer, _, document| {
            let mut changed: Value = serde_json::from_slice(document).expect("JSON");
            changed["layers"][0]["urls"] = json!(["http://127.0.0.1:1/layer"]);
            files.remove(layer);
            files.insert("1".to_owned(), Reply::new(200, changed.to_string()));
        }),
        pull("S-61 pull: the manifest breaks every time", |files, _, _, document| {
            files.insert("1".to_owned(), Reply { cut: Some(10), ..manifest(document) });
        }),
        pull("S-62 pull: a layer is compressed once more", |files, layer, _, _| {
            files.insert(layer.to_owned(), Reply::new(200, "short").with("content-encoding", "gzip"));
        }),
        pull("F-6 pull: for other platforms only", |files, _, _, document| {
            let entry = |platform: Value| {
                let mut entry = descriptor(MANIFEST, document);
                entry["platform"] = platform;
                entry
            };
            let other = [
                json!({ "os": "linux", "architecture": "s390x" }),
                json!({ "os": "windows", "architecture": "amd64" }),
            ];
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": other.map(entry) });
            files.insert("1".to_owned(), Reply::new(200, index.to_string()).with("content-type", INDEX));
        }),
        Case { command: "pull-by-digest", ..pull("S-51 pull: a digest stands for other bytes", |_, _, _, _| ()) },
        pull("S-55 pull: an index within itself, many times", |files, _, _, document| {
            let mut inner = descriptor(MANIFEST, document);
            for _ in 0..12 {
                let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner] }).to_string();
                inner = descriptor(INDEX, index.as_bytes());
                let reply = Reply::new(200, index).with("content-type", INDEX);
                files.insert(inner["digest"].as_str().expect("a digest").to_owned(), reply.clone());
                files.insert("1".to_owned(), reply);
            }
        }),
    ]
}

/// What both commands do with these answers to everything.
fn refusals(command: &'static str) -> Vec<Case> {
    let basic =
        |status| Reply::new(status, listed("UNAUTHORIZED", "who are you?")).with("www-authenticate", "Basic realm=x");
    vec![
        always("S-58 401 without credentials", command, false, basic(401)),
        always("S-58 401 with credentials", command, true, basic(401)),
        always("S-58 401 that repeats the password", command, true, {
            Reply::new(401, format!("{AUTH} p-canary is wrong")).with("www-authenticate", "Basic realm=x")
        }),
        always("S-58 403 without credentials", command, false, Reply::new(403, listed("DENIED", "read only"))),
        always("S-58 403 with credentials", command, true, Reply::new(403, listed("DENIED", "read only"))),
        always("S-58 the token server is not reached over https", command, true, {
            Reply::new(401, "").with("www-authenticate", CLEAR_REALM)
        }),
        always("S-58 the token server is no URL", command, true, {
            Reply::new(401, "").with("www-authenticate", r#"Bearer realm="file:///etc/passwd""#)
        }),
        Case {
            name: "S-58 no token is good enough",
            command,
            credentials: true,
            registry: Box::new(|request| match request.target.starts_with("/token") {
                true => Reply::new(200, r#"{"token":"never"}"#),
                false => Reply::new(401, "").with("www-authenticate", own_realm(request)),
            }),
        },
        Case {
            name: "S-58 the token is too large",
            command,
            credentials: true,
            registry: Box::new(|request| match request.target.starts_with("/token") {
                true => Reply { length: Some(1 << 40), ..Reply::new(200, vec![b'x'; 1 << 16]) },
                false => Reply::new(401, "").with("www-authenticate", own_realm(request)),
            }),
        },
        always("S-58 redirects without end", command, true, Reply::new(307, "").with("location", "/v2/again")),
        always("S-58 redirects to a file", command, true, Reply::new(307, "").with("location", "file:///etc/passwd")),
        always("S-61 429 that asks for a day", command, false, {
            Reply::new(429, listed("TOOMANYREQUESTS", "slow down")).with("retry-after", "86400")
        }),
        always("S-61 429 that asks for a moment", command, false, {
            Reply::new(429, listed("TOOMANYREQUESTS", "slow down")).with("retry-after", "1")
        }),
        always("S-61 503", command, false, Reply::new(503, "<html>Service Unavailable</html>")),
        always("S-61 the connection breaks", command, false, Reply { mute: true, ..Reply::new(200, "") }),
        always("an error with control characters", command, true, Reply::new(418, "a\u{1b}[31mb\u{7f}\nerror: forged")),
    ]
}

fn own_realm(request: &Request) -> String {
    format!(r#"Bearer realm="http://{}/token",service="s""#, request.header("host").unwrap_or_default())
}

fn pushes() -> Vec<Case> {
    let to = |location: &'static str| {
        move |r: &Request| (r.method == "POST").then(|| Reply::new(202, "").with("location", location))
    };
    let put = |what: &'static str, reply: Reply| {
        move |r: &Request| (r.method == "PUT" && r.target.contains(what)).then(|| reply.clone())
    };
    vec![
        push("S-51 push: stored as other bytes", {
            let digest = format!("sha256:{}", "0".repeat(64));
            put("/manifests/", Reply::new(201, "").with("docker-content-digest", digest))
        }),
        push("S-50 push: the registry got other bytes", {
            put("/blobs/", Reply::new(400, listed("DIGEST_INVALID", "provided digest did not match uploaded content")))
        }),
        push("push: the repository does not exist", |r| {
            (r.method == "POST")
                .then(|| Reply::new(404, listed("NAME_UNKNOWN", "repository name not known to registry")))
        }),
        push("push: the manifest is refused", {
            put("/manifests/", Reply::new(400, listed("MANIFEST_INVALID", "manifest invalid")))
        }),
        push("S-59 push: an upload without an address", |r| (r.method == "POST").then(|| Reply::new(202, ""))),
        push("S-59 push: an upload to a file", to("file:///etc/passwd")),
        push("S-59 push: an upload to a host that refuses connections", to("http://127.0.0.1:1/upload")),
        push("S-61 push: the upload breaks every time", put("/blobs/", Reply { mute: true, ..Reply::new(201, "") })),
        push("S-61 push: not even pieces are accepted", |r| {
            matches!(r.method.as_str(), "PUT" | "PATCH").then(|| Reply::new(413, "<html>Too Large</html>"))
        }),
        always("S-61 pull: 429 for an image that the store has", "pull-known", false, {
            Reply::new(429, listed("TOOMANYREQUESTS", "slow down")).with("retry-after", "86400")
        }),
        Case { command: "push-damaged", ..push("S-50 push: the stored layer is damaged", |_| None) },
    ]
}

/// Runs a case; the exit code and what is said from the first error on.
fn said(case: Case, image: &TestEnv) -> String {
    let server = Server::start(case.registry);
    let name = format!("{}/app:1", server.authority);
    let own = TestEnv::new();
    if case.credentials {
        let config = json!({ "auths": { &server.authority: { "auth": AUTH } } });
        fs::create_dir_all(own.dir().join("home/.docker")).expect("create");
        fs::write(own.dir().join("home/.docker/config.json"), config.to_string()).expect("write");
    }
    let config = own.dir().join("home/.docker").display().to_string();
    let done = match case.command {
        "pull" => own.kiln(&["pull", &name]).env("DOCKER_CONFIG", &config).output(),
        "pull-known" => {
            image.kiln(&["tag", "app", &name]).ok();
            image.kiln(&["pull", &name]).output()
        }
        "pull-by-digest" => {
            let digest = format!("sha256:{}", "0".repeat(64));
            let other = Server::start(|_| manifest(br#"{"schemaVersion":2,"config":{},"layers":[]}"#));
            let done = own.kiln(&["pull", &format!("{}/app@{digest}", other.authority)]).output();
            return format!("exit {}\n{}", done.code, plain(&done.stderr, &other.authority));
        }
        "push-damaged" => {
            let context = own.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
            own.build(&["-t", &name], &context).ok();
            let layer = &own.image(&name).layers[0];
            let mut bytes = fs::read(layer).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(layer).expect("remove");
            fs::write(layer, bytes).expect("write");
            own.kiln(&["push", &name]).output()
        }
        _ => {
            image.kiln(&["tag", "app", &name]).ok();
            image.kiln(&["push", &name]).env("DOCKER_CONFIG", &config).output()
        }
    };
    format!("exit {}\n{}", done.code, plain(&done.stderr, &server.authority))
}

/// Messages from the first error on, with `HOST` for the registry and without digests.
pub(super) fn plain(stderr: &str, authority: &str) -> String {
    let from = ["error: ", "warning: cannot read the cache"]
        .iter()
        .filter_map(|label| stderr.find(label))
        .min()
        .unwrap_or(stderr.len());
    let mut text = stderr[from..].replace(authority, "HOST");
    assert!(!text.contains("p-canary") && !text.contains(AUTH), "{text}");
    for mark in ["sha256:", "root-"] {
        let mut at = 0;
        while let Some(found) = text[at..].find(mark).map(|i| at + i + mark.len()) {
            let end = text[found..].find(|c: char| !c.is_ascii_hexdigit()).map_or(text.len(), |i| found + i);
            text.replace_range(found..end, "DIGEST");
            at = found;
        }
    }
    text
}

#[test]
fn faults_of_registries_are_said_in_full() {
    // S-50, S-51, S-53, S-54, S-55, S-56, S-57, S-58, S-59, S-61, S-62
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    env.build(&["-t", "app"], &context).ok();
    let groups = [wrong_bytes(), refusals("pull"), refusals("push"), pushes()];
    let cases: Vec<Case> = groups.into_iter().flatten().collect();
    let titles: Vec<String> = cases.iter().map(title).collect();
    let (queue, all) = (Mutex::new(cases.into_iter().zip(titles).enumerate()), Mutex::new(BTreeMap::new()));
    // Most of them wait between attempts.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((number, (case, title))) = queue.lock().expect("lock").next() else { break };
                    let text = format!("# {title}\n{}\n", said(case, &env));
                    all.lock().expect("lock").insert(number, text);
                }
            });
        }
    });
    let all: String = all.into_inner().expect("lock").into_values().collect();
    let mut golden = Golden::new();
    golden.compare(&testdata("registry/messages"), &all);
    golden.finish();
}

fn title(case: &Case) -> String {
    let named = case.name.contains("pull: ") || case.name.contains("push: ");
    if named { case.name.to_owned() } else { format!("{}: {}", case.command, case.name) }
}

#[test]
fn invalid_names_are_refused_by_pull_and_push() {
    // S-65
    let env = TestEnv::new();
    let long = format!("r.example/a:{}", "x".repeat(129));
    let fits = format!("127.0.0.1:1/a:{}", "x".repeat(128));
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut all = String::new();
    for name in [
        "r.example/Upper",
        "r.example/a//b",
        "r.example/../b",
        "r.example:port/a",
        "r.example:99999/a",
        "r.example/a:b:c",
        "r.example/a:",
        "r.example/a@sha256:12",
        "r.example/a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "r.example/a@",
        &long,
    ] {
        for command in ["pull", "push"] {
            let done = env.kiln(&[command, name]).output();
            assert_eq!(done.code, 2, "{name}: {done}");
            all.push_str(&format!("# S-65 {command} {name}\n{}\n", done.stderr));
        }
    }
    let mut golden = Golden::new();
    golden.compare(&testdata("registry/names"), &all);
    golden.finish();
    // A port is not a tag, a tag of 128 bytes is one, and a digest wins over the tag beside it.
    let both = format!("127.0.0.1:1/a:tag@{digest}");
    for (name, asked) in [("127.0.0.1:1/a", "latest"), (&fits, &fits["127.0.0.1:1/a:".len()..]), (&both, &digest)] {
        let want = format!("error: http://127.0.0.1:1/v2/a/manifests/{asked}: connection refused\n");
        let done = env.kiln(&["pull", name]).fails(3);
        assert!(done.stderr.contains(&want), "{done}");
    }
}
