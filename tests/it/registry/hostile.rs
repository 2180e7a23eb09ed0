//! Test hostile registries: wrong digests, types, sizes and redirects (S-51…S-66).

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::env::{binary, fixture};
use crate::support::image::sha256;
use crate::support::web::Web;
use crate::support::{Registry, TestEnv};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An answer: path, headers, body.
type Answer = (String, String, Vec<u8>);

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() })
}

fn blob(bytes: &[u8]) -> Answer {
    (format!("/v2/app/blobs/sha256:{}", sha256(bytes)), String::new(), bytes.to_vec())
}

fn document(key: &str, headers: &str, bytes: &[u8]) -> Answer {
    (format!("/v2/app/manifests/{key}"), headers.to_owned(), bytes.to_vec())
}

/// An empty layer: the end of an archive.
pub(super) const EMPTY: [u8; 1024] = [0; 1024];

/// A config with one layer, and the manifest of both.
pub(super) fn image(layer: &[u8], diff_id: &str) -> (Vec<u8>, Vec<u8>) {
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, layer)],
    });
    (config, manifest.to_string().into_bytes())
}

/// A valid image: the answers for its blobs, and its manifest.
fn good() -> (Vec<Answer>, Vec<u8>) {
    let (config, manifest) = image(&EMPTY, &format!("sha256:{}", sha256(&EMPTY)));
    (vec![blob(&EMPTY), blob(&config)], manifest)
}

/// Serves the answers; also returns the full name of the image `app:1`.
fn serve(answers: &[Answer]) -> (Web, String) {
    let own: Vec<_> =
        answers.iter().map(|(path, headers, body)| (path.as_str(), headers.as_str(), &body[..])).collect();
    let web = Web::serve(&own);
    let name = format!("{}/app:1", web.url.trim_start_matches("http://"));
    (web, name)
}

#[test]
fn manifest_digest_is_computed_from_its_bytes() {
    // S-51
    let (mut answers, manifest) = good();
    let digest = format!("sha256:{}", sha256(&manifest));
    let lie = format!("Docker-Content-Digest: sha256:{}", "0".repeat(64));
    answers.push(document("1", &lie, &manifest));
    answers.push(document(&format!("sha256:{}", "0".repeat(64)), &lie, &manifest));
    let (_web, name) = serve(&answers);
    let env = TestEnv::new();
    env.kiln(&["pull", &name]).ok().says(&digest);
    assert_eq!(env.image(&name).digest, digest);
    let pinned = format!("{}@sha256:{}", name.trim_end_matches(":1"), "0".repeat(64));
    env.kiln(&["pull", &pinned]).fails(1).says("digest mismatch");
    env.assert_swept();
}

#[test]
fn layer_with_wrong_diff_id_is_refused_as_base() {
    // S-52
    requires!(userns, overlay);
    let (config, manifest) = image(&EMPTY, &format!("sha256:{}", sha256(b"something else")));
    let (_web, name) = serve(&[blob(&EMPTY), blob(&config), document("1", "", &manifest)]);
    let env = TestEnv::new();
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nRUN [\"/x\"]\n"));
    let done = env.build(&["-t", "app"], &context).output();
    assert_eq!(done.code, 1, "{done}");
    done.says(&sha256(b"something else")[..12]);
    env.kiln(&["inspect", "app"]).fails(1);
}

#[test]
fn oversized_documents_are_not_read() {
    // S-53
    let env = TestEnv::new();
    let (mut answers, manifest) = good();
    let mut long = manifest.clone();
    long.resize(5 << 20, b' ');
    answers.push(document("1", "", &long));
    let (_web, name) = serve(&answers);
    env.kiln(&["pull", &name]).fails(1).says("4194304");
    // A config is requested only if its size is within the limit.
    let mut manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    manifest["config"]["size"] = json!(100 << 20);
    let (web, name) = serve(&[document("1", "", manifest.to_string().as_bytes())]);
    env.kiln(&["pull", &name]).fails(1).says("4194304");
    assert!(web.asked().iter().all(|asked| asked.contains("/manifests/")), "{:?}", web.asked());
    env.assert_swept();
}

#[test]
fn ambiguous_manifests_are_refused() {
    // S-54
    let (answers, manifest) = good();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_slice(&manifest).expect("JSON");
        change(&mut document);
        document.to_string().into_bytes()
    };
    let typed = |of: &str| format!("Content-Type: {of}");
    for (headers, bytes, says) in [
        (typed(INDEX), manifest.clone(), "is a manifest"),
        (String::new(), with(&|d| d["mediaType"] = json!(INDEX)), "is a manifest"),
        (String::new(), with(&|d| d["manifests"] = json!([])), "both"),
        (typed(MANIFEST), json!({ "schemaVersion": 2, "manifests": [] }).to_string().into_bytes(), "is an index"),
        (String::new(), json!({ "schemaVersion": 1, "fsLayers": [] }).to_string().into_bytes(), "schema 1"),
        (String::new(), with(&|d| d["config"]["mediaType"] = json!("application/x-chart")), "artifact"),
        (String::new(), with(&|d| d["mediaType"] = json!("text/html")), "text/html"),
        (String::new(), b"<html>".to_vec(), "not a manifest"),
    ] {
        let mut all = answers.clone();
        all.push(document("1", &headers, &bytes));
        let (_web, name) = serve(&all);
        let env = TestEnv::new();
        env.kiln(&["pull", &name]).fails(1).says(says);
        assert_eq!(env.kiln(&["images", "-q"]).ok().stdout, "", "{says}");
    }
    // Without a type, the content decides.
    let mut all = answers;
    all.push(document("1", "", &with(&|d| drop(d.as_object_mut().expect("an object").remove("mediaType")))));
    TestEnv::new().kiln(&["pull", &serve(&all).1]).ok();
}

#[test]
fn deeply_nested_indexes_are_refused() {
    // S-55
    let (mut answers, manifest) = good();
    let mut inner = descriptor(MANIFEST, &manifest);
    answers.push(document(inner["digest"].as_str().expect("a digest"), "", &manifest));
    for depth in 1..=12 {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner] }).to_string().into_bytes();
        inner = descriptor(INDEX, &index);
        answers.push(document(inner["digest"].as_str().expect("a digest"), "", &index));
        if matches!(depth, 1 | 12) {
            let tag = if depth == 1 { "1" } else { "deep" };
            answers.push(document(tag, "", &index));
        }
    }
    let (_web, name) = serve(&answers);
    let env = TestEnv::new();
    env.kiln(&["pull", &name]).ok();
    let deep = format!("{}:deep", name.trim_end_matches(":1"));
    env.kiln(&["pull", &deep]).fails(1).says("nested too deep");
}

#[test]
fn foreign_layer_urls_are_not_requested() {
    // S-57
    let (config, manifest) = image(&EMPTY, &format!("sha256:{}", sha256(&EMPTY)));
    let elsewhere = Web::serve(&[("/layer", "", &EMPTY)]);
    let mut manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    manifest["layers"][0]["urls"] = json!([format!("{}/layer", elsewhere.url)]);
    let (_web, name) = serve(&[blob(&config), document("1", "", manifest.to_string().as_bytes())]);
    let env = TestEnv::new();
    env.kiln(&["pull", &name]).fails(1);
    assert!(elsewhere.asked().is_empty(), "{:?}", elsewhere.asked());
}

#[test]
fn redirect_to_another_host_carries_no_password() {
    // S-59
    let (answers, manifest) = good();
    let other = Web::serve(&[("/layer", "", &EMPTY)]);
    let ask = "WWW-Authenticate: Basic realm=\"x\"";
    let away = format!("{ask}\r\nLocation: {}/layer?signed=yes", other.url.replace("127.0.0.1", "localhost"));
    let mut answers: Vec<Answer> = answers.into_iter().map(|(path, _, body)| (path, ask.to_owned(), body)).collect();
    answers[0].1 = away;
    answers.push(document("1", ask, &manifest));
    let (web, name) = serve(&answers);
    let env = TestEnv::new();
    let dir = env.dir().join("home/.docker");
    fs::create_dir_all(&dir).expect("create");
    let host = name.split('/').next().expect("a host");
    // `kiln:secret` in base64.
    let config = json!({ "auths": { host: { "auth": "a2lsbjpzZWNyZXQ=" } } });
    fs::write(dir.join("config.json"), config.to_string()).expect("write");
    env.kiln(&["pull", &name]).ok();
    assert!(web.heads().iter().any(|head| head.contains("a2lsbjpzZWNyZXQ=")), "{:?}", web.heads());
    assert_eq!(other.asked(), ["/layer?signed=yes "], "the query stays");
    assert!(!other.heads().concat().to_ascii_lowercase().contains("authorization"), "{:?}", other.heads());
}

/// A self-signed certificate for `registry.test`, and its key.
fn certificate(env: &TestEnv) -> (String, String) {
    let (cert, key) = (env.dir().join("cert.pem"), env.dir().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry.test"])
        .args(["-addext", "subjectAltName=DNS:registry.test", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-out"])
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("run openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert.display().to_string(), key.display().to_string())
}

#[test]
fn certificates_are_verified_unless_registry_is_insecure() {
    // S-60
    requires!(root, overlay, docker_registry, skopeo, openssl);
    let env = TestEnv::new();
    let (cert, key) = certificate(&env);
    let open = Registry::start();
    open.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let registry = open.restart_with(&format!("  tls:\n    certificate: {cert}\n    key: {key}\n"));
    let port = registry.host().rsplit_once(':').expect("a port").1.to_owned();
    let name = format!("registry.test:{port}/base:1");
    // Loopback needs no TLS, so use another name, which only this mount namespace resolves.
    fs::write(env.dir().join("hosts"), "127.0.0.1 localhost registry.test\n").expect("write");
    let pull = |args: &str, variables: &[(&str, &str)]| {
        let script = format!("mount --bind hosts /etc/hosts && exec \"$K\" {args}");
        let out = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .env_clear()
            .envs(variables.iter().copied())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("K", binary())
            .env("KILN_ROOT", env.store())
            .env("HOME", env.dir().join("home"))
            .current_dir(env.dir())
            .output()
            .expect("run unshare");
        (out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
    };
    let (code, said) = pull(&format!("pull {name}"), &[]);
    assert!(code == Some(3) && said.contains("TLS: the certificate is signed by an unknown authority"), "{said}");
    let (code, said) = pull(&format!("pull --insecure-registry elsewhere.test {name}"), &[]);
    assert_eq!(code, Some(3), "{said}");
    let listed = format!("--insecure-registry registry.test:{port}");
    let (code, said) = pull(&format!("pull {listed} {name}"), &[]);
    assert_eq!(code, Some(0), "{said}");
    fs::create_dir(env.dir().join("context")).expect("create");
    fs::write(env.dir().join("context/Dockerfile"), format!("FROM {name}\nLABEL a=b\n")).expect("write");
    assert_eq!(pull("build --pull context", &[]).0, Some(3));
    let (code, said) = pull(&format!("build --pull {listed} context"), &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = pull(&format!("run --pull=always {name} true"), &[]);
    assert!(code == Some(125) && said.contains("unknown authority"), "{said}");
    let (code, said) = pull(&format!("run --pull=always {listed} {name} true"), &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = pull(&format!("push {name}"), &[]);
    assert!(code == Some(3) && said.contains("TLS: the certificate is signed by an unknown authority"), "{said}");
    for args in [
        format!("push {listed} {name}"),
        format!("manifest create --insecure registry.test:{port}/list docker://{name}"),
        format!("manifest push --insecure registry.test:{port}/list"),
        format!("manifest inspect --insecure docker://registry.test:{port}/list"),
        format!("imagetools inspect --insecure {name}"),
        format!("imagetools create --insecure -t registry.test:{port}/made:1 {name}"),
        format!("build -o type=registry,registry.insecure=true -t {name} context"),
        format!("login {listed} -u me -p secret registry.test:{port}"),
    ] {
        let (code, said) = pull(&args, &[]);
        assert_eq!(code, Some(0), "{said}");
    }
    // A CA from SSL_CERT_FILE is trusted.
    let (code, said) = pull(&format!("pull {name}"), &[("SSL_CERT_FILE", &cert)]);
    assert_eq!(code, Some(0), "{said}");
    // So is one in certs.d (O-76), for its host alone; a broken one is an error there.
    for tool in ["containers", "docker"] {
        let dir = env.dir().join(format!("home/.config/{tool}/certs.d/registry.test:{port}"));
        fs::create_dir_all(&dir).expect("create");
        fs::copy(&cert, dir.join("ca.crt")).expect("copy");
        let (code, said) = pull(&format!("push {name}"), &[]);
        assert_eq!(code, Some(0), "{said}");
        fs::write(dir.join("ca.crt"), "nothing").expect("write");
        let (code, said) = pull(&format!("push {name}"), &[]);
        assert!(code == Some(3) && said.contains("ca.crt: there is no certificate in it"), "{said}");
        fs::remove_dir_all(dir).expect("remove");
    }
    drop(registry);
}

#[test]
fn unrequested_content_encoding_is_refused() {
    // S-62
    use std::io::Write as _;
    // The digest of a blob covers the bytes as sent, so that content encodings are not decoded.
    let (mut answers, manifest) = good();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&EMPTY).expect("compress");
    answers[0].2 = gzip.finish().expect("compress");
    answers[0].1 = "Content-Encoding: gzip".to_owned();
    answers.push(document("1", "", &manifest));
    let (web, name) = serve(&answers);
    let env = TestEnv::new();
    env.kiln(&["pull", &name]).fails(1).says("its manifest says 1024");
    assert!(!env.store().join("blobs/sha256").join(sha256(&EMPTY)).exists());
    let accepts = |head: &String| head.to_ascii_lowercase().contains("accept-encoding: gzip");
    assert!(!web.heads().iter().any(accepts), "{:?}", web.heads());
}

#[test]
fn proxies_are_used_except_for_no_proxy_hosts() {
    // S-63
    let proxy = Web::serve(&[]);
    let env = TestEnv::new();
    let pull = |name: &str| env.kiln(&["pull", "--insecure-registry", "plain.test:5000", name]);
    let connects = |to: &str| proxy.heads().iter().filter(|head| head.starts_with(&format!("CONNECT {to} "))).count();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let before = connects("secure.test:443");
        for not in ["secure.test", ".test", "other.test,secure.test"] {
            pull("secure.test/app:1").env(variable, &proxy.url).env("NO_PROXY", not).output();
            assert_eq!(connects("secure.test:443"), before, "{variable} {not}");
        }
        pull("secure.test/app:1").env(variable, &proxy.url).env("no_proxy", "other.test").output();
        assert!(connects("secure.test:443") > before, "{variable}: {:?}", proxy.heads());
    }
    for variable in ["HTTP_PROXY", "http_proxy"] {
        let before = connects("plain.test:5000");
        pull("plain.test:5000/app:1").env(variable, &proxy.url).output();
        assert!(connects("plain.test:5000") > before, "{variable}: {:?}", proxy.heads());
    }
    // Registries on loopback are never reached through a proxy.
    let (answers, manifest) = good();
    let (_web, name) = serve(&[&answers[..], &[document("1", "", &manifest)]].concat());
    let before = proxy.heads().len();
    env.kiln(&["pull", &name]).env("ALL_PROXY", &proxy.url).ok();
    assert_eq!(proxy.heads().len(), before);
}

#[test]
fn invalid_image_names_are_refused() {
    // S-65
    let env = TestEnv::with_busybox();
    let long = format!("a:{}", "x".repeat(129));
    for name in [
        "UPPER",
        "a//b",
        "../x",
        "a/../b",
        "a/..",
        "/a",
        "a/",
        "host:5000//x",
        "host:5000/",
        "host:x/a",
        &long,
        "a:b:c",
        "a:",
        "a:..",
        "a:-b",
        "a:b/c",
        "a@sha256:zz",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        ".a",
        "-a/b",
        "a_-_b",
        "b\u{430}sybox",
        "a b",
        "a\nb",
        "",
        ":1",
        "@",
        "a%2fb",
    ] {
        let done = env.kiln(&["tag", "busybox", "--", name]).output();
        assert_eq!(done.code, 2, "{name:?}: {done}");
        let context = env.context(&format!("-- Dockerfile --\nFROM {}\n", name.replace(['\n', ' '], "?")));
        assert_ne!(env.build(&[], &context).output().code, 0, "{name:?}");
    }
    assert_eq!(env.kiln(&["images", "-q"]).ok().lines().count(), 1);
    for name in ["host:5000/x", "a/b/c:X.y-z_1", "localhost/a", "a__b.c-d"] {
        env.kiln(&["tag", "busybox", name]).ok();
        env.kiln(&["inspect", name]).ok();
    }
}

#[test]
fn pulled_image_is_never_used_as_cache() {
    // S-66
    requires!(userns, overlay, docker_registry, skopeo);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN echo built > /made\n");
    env.build(&["-t", "app"], &context).ok();
    // A pulled image with the same history is not used as a cache.
    let registry = Registry::start();
    let name = registry.push_layout(&env.store(), "app:latest", "app:1");
    let other = TestEnv::with_busybox();
    other.kiln(&["pull", &name]).ok();
    let done = other.build(&[], &context).ok();
    assert!(done.progress().ran().contains("RUN echo built > /made"), "{done}");
}
