//! Test the whole message of what needs more than one hostile registry: certificates, proxies, URLs of ADD, caches; and that
//! each of S-50…S-66 has such a message.
//!
//! `testdata/registry/exact` has, for each case, the exit code and what was said; `BLESS=1` writes it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::hostile::{EMPTY, MANIFEST, image};
use super::messages::plain;
use crate::support::certificates::Authority;
use crate::support::env::{Done, fixture, testdata};
use crate::support::image::sha256;
use crate::support::{Golden, Registry, Reply, Request, Server, TestEnv};

const LOOPBACK: &str = "IP:127.0.0.1";

/// Where the messages of each id are, in `testdata/registry`.
const MESSAGES: [(&str, &str); 17] = [
    ("S-50", "messages"),
    ("S-51", "messages"),
    ("S-52", "exact"),
    ("S-53", "messages"),
    ("S-54", "messages"),
    ("S-55", "messages"),
    ("S-56", "messages"),
    ("S-57", "messages"),
    ("S-58", "messages"),
    ("S-59", "messages"),
    ("S-60", "exact"),
    ("S-61", "messages"),
    ("S-62", "messages"),
    ("S-63", "exact"),
    ("S-64", "exact"),
    ("S-65", "names"),
    ("S-66", "exact"),
];

#[test]
fn each_fault_of_registries_has_an_exact_message() {
    let ids: Vec<String> = (50..=66).map(|number| format!("S-{number}")).collect();
    assert_eq!(MESSAGES.map(|(id, _)| id.to_owned()).to_vec(), ids);
    for (id, file) in MESSAGES {
        let text = std::fs::read_to_string(testdata(&format!("registry/{file}"))).expect("read");
        let titled = |line: &&str| line.starts_with("# ") && line.split([' ', ':']).any(|word| word == id);
        let said = text.lines().skip_while(|line| !titled(line)).nth(1);
        let is_message = |line: &str| line.starts_with("error: ") || line.starts_with("warning: ");
        let rest = text.lines().skip_while(|line| !titled(line)).skip(1).take(3).any(is_message);
        assert!(said.is_some() && rest, "no message for {id} in {file}");
    }
}

/// The cases of one test, as the golden file has them.
#[derive(Default)]
struct Said(String);

impl Said {
    /// Adds what a command said, with `HOST` for the server, and without the directory of the context.
    fn add(&mut self, title: &str, done: &Done, host: &str) {
        let text: String = plain(&done.stderr, host).split_inclusive('\n').map(without_directory).collect();
        self.0.push_str(&format!("# {title}\nexit {}\n{text}\n", done.code));
    }
}

/// The line that names a Dockerfile and a position in it, without the directory; other lines as they are.
fn without_directory(line: &str) -> String {
    match (line.split_once("--> "), line.rsplit_once('/')) {
        (Some((before, _)), Some((_, file))) => format!("{before}--> {file}"),
        _ => line.to_owned(),
    }
}

/// A registry with the image `app:1`, whose config promises a layer with `diff_id`.
fn registry(diff_id: String) -> Server {
    let (config, manifest) = image(&EMPTY, &diff_id);
    Server::start(move |request: &Request| {
        let key = request.target.rsplit('/').next().unwrap_or_default();
        match [&config[..], &EMPTY].into_iter().find(|bytes| key == format!("sha256:{}", sha256(bytes))) {
            Some(bytes) => Reply::new(200, bytes),
            None => Reply::new(200, &*manifest).with("content-type", MANIFEST),
        }
    })
}

/// A server that reads something, sends `answer` and closes the connection; its address.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer));
        }
    });
    host
}

/// A fatal alert, `unexpected_message`: the answer of many TLS servers to what is not TLS.
const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 10];

fn wrong_layers(said: &mut Said) {
    let server = registry(format!("sha256:{}", sha256(b"something else")));
    let (env, name) = (TestEnv::new(), format!("{}/app:1", server.authority));
    said.add("S-52 pull: a layer is not that of the config", &env.kiln(&["pull", &name]).output(), &server.authority);
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nRUN [\"/x\"]\n"));
    said.add("S-52 build: a layer is not that of the config", &env.build(&[], &context).output(), &server.authority);
    assert_eq!(env.kiln(&["images", "-q"]).ok().stdout, "");
}

fn certificates(said: &mut Said) {
    let env = TestEnv::new();
    let open = Registry::start();
    open.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let plain_host = open.host();
    let strict = |args: &[&str]| env.kiln(&[&["pull", "--tls-verify"], args].concat()).output();
    said.add("S-60 pull: TLS to a registry without TLS", &strict(&[&open.name("base:1")]), &plain_host);
    let add =
        |url: &str| env.build(&[], &env.context(&format!("-- Dockerfile --\nFROM scratch\nADD {url} /x\n"))).output();
    said.add("S-60 ADD: https to a server without TLS", &add(&format!("https://{plain_host}/v2/")), &plain_host);
    let ca = Authority::new(env.dir(), "ca");
    let pair = ca.issue("server", LOOPBACK);
    let (certificate, key) = (&pair.certificate, &pair.key);
    let registry = open.restart_with(&format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"));
    let (host, name) = (registry.host(), registry.name("base:1"));
    said.add("S-60 pull: an unknown authority", &strict(&[&name]), &host);
    let listed = strict(&["--insecure-registry", "elsewhere.test", &name]);
    said.add("S-60 pull: an unknown authority, another host is insecure", &listed, &host);
    env.kiln(&["pull", "--tls-verify", "--insecure-registry", &host, &name]).ok();
    said.add("S-60 ADD: http to a server that answers with 400", &add(&format!("http://{host}/v2/")), &host);
    let alerting = answering(ALERT);
    said.add("S-60 ADD: http to a server that answers with an alert", &add(&format!("http://{alerting}/x")), &alerting);
    let closing = answering(b"");
    said.add("S-60 ADD: https to a server that closes", &add(&format!("https://{closing}/x")), &closing);
    said.add("S-60 pull: TLS to a server that closes", &strict(&[&format!("{closing}/app:1")]), &closing);
    let other = answering(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    said.add("S-60 pull: TLS to a server that answers in HTTP", &strict(&[&format!("{other}/app:1")]), &other);
    env.kiln(&["pull", &name]).ok();
    said.add("S-60 push: an unknown authority", &env.kiln(&["push", "--tls-verify", &name]).output(), &host);
}

fn proxies(said: &mut Said) {
    let env = TestEnv::new();
    let through = |proxy: &str| env.kiln(&["pull", "secure.test/app:1"]).env("HTTPS_PROXY", proxy).output();
    let free = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("an address").to_string();
    said.add("S-63 pull: the proxy refuses connections", &through(&format!("http://{free}")), &free);
    for (title, status) in [("wants credentials", 407), ("denies access", 403), ("finds no host", 502)] {
        let proxy = Server::start(move |_| Reply::new(status, "a page of the proxy"));
        let url = format!("http://u:p-canary@{}", proxy.authority);
        said.add(&format!("S-63 pull: the proxy {title}"), &through(&url), &proxy.authority);
    }
    said.add("S-63 pull: the proxy is no URL", &through("http://[::1"), "HOST");
}

fn urls(said: &mut Said) {
    let env = TestEnv::new();
    let server = Server::start(|request| match request.target.as_str() {
        "/file" => Reply::new(302, "").with("location", "file:///etc/passwd"),
        "/large" => Reply { length: Some(1 << 40), ..Reply::new(200, [0; 1 << 16]) },
        _ => Reply::new(302, "").with("location", "gopher://127.0.0.1/x"),
    });
    let of_file = |line: &str| env.context(&format!("-- Dockerfile --\nFROM scratch\nADD {line} /x\n"));
    for (title, line) in [
        ("a file of the host", "file:///etc/passwd".to_owned()),
        ("an unknown scheme", "s3://bucket/x".to_owned()),
        ("a redirect to a file of the host", format!("http://{}/file", server.authority)),
        ("a redirect to an unknown scheme", format!("http://{}/gopher", server.authority)),
        ("more than the limit", format!("http://{}/large", server.authority)),
    ] {
        let done = env.build(&[], &of_file(&line)).env("KILN_MAX_DOWNLOAD", "1m").output();
        said.add(&format!("S-64 ADD: {title}"), &done, &server.authority);
    }
    assert_eq!(server.log().len(), 3, "{:?}", server.log());
}

fn caches(said: &mut Said) {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    let server = registry(format!("sha256:{}", sha256(&EMPTY)));
    let from = format!("type=registry,ref={}/app:1", server.authority);
    said.add(
        "S-66 build: an image in place of a cache",
        &env.build(&["-q", "--cache-from", &from], &context).output(),
        &server.authority,
    );
    // What a registry serves as an image is no cache.
    let env = TestEnv::new();
    env.kiln(&["pull", &format!("{}/app:1", server.authority)]).ok();
    let done = env.build(&["-t", "app"], &context).ok();
    assert!(done.progress().ran().contains("COPY Dockerfile /"), "{done}");
}

#[test]
fn faults_between_kiln_and_registries_are_said_in_full() {
    // S-52, S-60, S-63, S-64, S-66
    requires!(userns, overlay, docker_registry, skopeo, openssl);
    let mut said = Said::default();
    wrong_layers(&mut said);
    certificates(&mut said);
    proxies(&mut said);
    urls(&mut said);
    caches(&mut said);
    let mut golden = Golden::new();
    golden.compare(&testdata("registry/exact"), &said.0);
    golden.finish();
}

/// Forwards TLS to `to`, and answers anything else with an alert; the address.
fn alerting(to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let host = listener.local_addr().expect("an address").to_string();
    let to = to.to_owned();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut first = [0];
            if client.peek(&mut first).is_err() || first != [0x16] {
                let _ = client.read(&mut [0; 4096]).and_then(|_| client.write_all(ALERT));
                continue;
            }
            let server = TcpStream::connect(&to).expect("the registry");
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
                std::thread::spawn(move || {
                    std::io::copy(&mut from, &mut to).ok();
                    to.shutdown(Shutdown::Write).ok();
                });
            }
        }
    });
    host
}

#[test]
fn loopback_registry_that_wants_tls_is_used_over_tls() {
    // S-60
    requires!(docker_registry, skopeo, openssl);
    let env = TestEnv::new();
    let open = Registry::start();
    open.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let pair = Authority::new(env.dir(), "ca").issue("server", LOOPBACK);
    let (certificate, key) = (&pair.certificate, &pair.key);
    let registry = open.restart_with(&format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"));
    let host = alerting(&registry.host());
    for host in [&host, &registry.host()] {
        env.kiln(&["pull", &format!("{host}/base:1")]).ok();
        env.kiln(&["push", &format!("{host}/base:1")]).ok();
        env.kiln(&["login", "-u", "me", "-p", "secret", host]).ok();
    }
}
