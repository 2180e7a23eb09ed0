//! Test which certificates kiln trusts and shows, and what it says where TLS fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::certificates::{Authority, Pair, self_signed};
use crate::support::env::{binary, fixture};
use crate::support::{Registry, TestEnv};

const LOOPBACK: &str = "IP:127.0.0.1,DNS:registry.test";

/// A registry with busybox as `base:1`; `restart` gives it certificates.
fn open() -> Registry {
    let registry = Registry::start();
    registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    registry
}

/// Restarts it with a certificate; with `client`, it requires certificates of that authority.
fn restart(registry: Registry, pair: &Pair, client: Option<&Authority>) -> Registry {
    let clients = client.map(|ca| format!("    clientcas:\n      - {}\n", ca.certificate())).unwrap_or_default();
    let (certificate, key) = (&pair.certificate, &pair.key);
    registry.restart_with(&format!("  tls:\n    certificate: {certificate}\n    key: {key}\n{clients}"))
}

#[test]
fn registry_authorities_are_trusted_where_named() {
    // S-60, O-76
    requires!(docker_registry, skopeo, openssl);
    let env = TestEnv::new();
    let ca = Authority::new(env.dir(), "ca");
    let registry = restart(open(), &ca.issue("server", LOOPBACK), None);
    let (host, name) = (registry.host(), registry.name("base:1"));
    // On loopback, certificates are verified only if that is asked for.
    env.kiln(&["pull", &name]).ok();
    let failed = env.kiln(&["pull", "--tls-verify", &name]).fails(3);
    failed.says(&format!("error: {host}: TLS: the certificate is signed by an unknown authority\n"));
    failed.says(&format!("hint: if {host} has a certificate of a private CA, name the CA's with --registry-ca FILE\n"));
    env.kiln(&["pull", "--tls-verify=false", &name]).ok();
    let other = Authority::new(env.dir(), "other");
    env.kiln(&["pull", "--tls-verify", "--registry-ca", other.certificate(), &name]).fails(3).says("unknown authority");
    let both = ["--registry-ca", other.certificate(), "--registry-ca", ca.certificate()];
    env.kiln(&[&["pull", "--tls-verify"], &both[..], &[&name]].concat()).ok();
    env.kiln(&["pull", "--tls-verify", &name]).env("SSL_CERT_FILE", ca.certificate()).ok();
    env.kiln(&["pull", "--tls-verify", &name]).env("KILN_CA_CERT", ca.certificate()).ok();
    env.kiln(&["pull", "--tls-verify", "--ca-cert", ca.certificate(), &name]).ok();
    let dir = env.dir().join("hashed");
    fs::create_dir(&dir).expect("create");
    let hash = Command::new("openssl").args(["x509", "-hash", "-noout", "-in", ca.certificate()]).output();
    let hash = String::from_utf8(hash.expect("run openssl").stdout).expect("UTF-8");
    fs::copy(ca.certificate(), dir.join(format!("{}.0", hash.trim()))).expect("copy");
    env.kiln(&["pull", "--tls-verify", &name]).env("SSL_CERT_DIR", dir.to_str().expect("UTF-8")).ok();
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nLABEL a=b\n"));
    let pushed = registry.name("app:1");
    let strict = ["--tls-verify", "--pull", "--push", "-t", &pushed];
    env.build(&strict, &context).fails(3).says("unknown authority");
    env.build(&[&strict[..], &["--registry-ca", ca.certificate()]].concat(), &context).ok();
    env.kiln(&["push", "--tls-verify", &pushed]).fails(3).says("unknown authority");
    for option in ["--registry-ca", "--ca-cert"] {
        env.kiln(&["push", "--tls-verify", option, ca.certificate(), &pushed]).ok();
    }
    env.kiln(&["push", "--tls-verify=false", &pushed]).ok();
    let (at, list) = (format!("docker://{name}"), registry.name("list"));
    for args in [
        &["manifest", "inspect", &at][..],
        &["manifest", "create", &list, &at],
        &["manifest", "push", &list],
        &["imagetools", "create", "-t", &list, &name],
        &["imagetools", "inspect", &name],
    ] {
        env.kiln(&[args, &["--tls-verify"]].concat()).fails(3).says("unknown authority");
        for option in ["--registry-ca", "--ca-cert"] {
            env.kiln(&[args, &["--tls-verify", option, ca.certificate()]].concat()).ok();
            if args[..2] == ["manifest", "create"] {
                env.kiln(&["manifest", "rm", &list]).ok();
            }
        }
        if args[1] == "create" {
            env.kiln(&[args, &["--tls-verify=false"]].concat()).ok();
        }
    }
    let login = ["login", "-u", "me", "-p", "secret", "--tls-verify"];
    env.kiln(&[&login[..], &[&host]].concat()).fails(3).says("unknown authority");
    for option in ["--registry-ca", "--ca-cert"] {
        env.kiln(&[&login[..], &[option, ca.certificate(), &host]].concat()).ok();
    }
}

#[test]
fn unusable_certificate_files_are_usage_errors() {
    requires!(openssl);
    let env = TestEnv::new();
    fs::write(env.dir().join("empty.pem"), "").expect("write");
    let empty = env.dir().join("empty.pem").display().to_string();
    let pull = |args: &[&str]| env.kiln(&[&["pull"], args, &["127.0.0.1:1/a"]].concat());
    for option in ["--registry-ca", "--ca-cert"] {
        pull(&[option, "/nowhere.pem"]).fails(2).says(&format!("error: {option}: /nowhere.pem does not exist\n"));
        let none = format!("error: {option}: {empty}: there is no certificate in it\n");
        pull(&[option, &empty]).fails(2).says(&none);
    }
    pull(&[]).env("KILN_CA_CERT", "/nowhere.pem").fails(2).says("KILN_CA_CERT: /nowhere.pem does not exist");
    pull(&["--cert-dir", "/nowhere"]).fails(2).says("--cert-dir: ").says("/nowhere");
    pull(&["--tls-verify=maybe"]).fails(2).says("--tls-verify");
    let dir = env.dir().join("certs");
    fs::create_dir(&dir).expect("create");
    let at = dir.to_str().expect("UTF-8");
    pull(&["--cert-dir", at]).fails(2).says("has neither *.crt nor *.cert");
    fs::copy(&self_signed(env.dir(), "a", None, true).certificate, dir.join("client.cert")).expect("copy");
    pull(&["--cert-dir", at]).fails(2).says("client.key does not exist");
    fs::write(dir.join("client.key"), "").expect("write");
    pull(&["--cert-dir", at]).fails(2).says("client.cert: there is no private key without a passphrase beside it");
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    env.build(&["--ca-cert", "/nowhere.pem"], &context).fails(2).says("--ca-cert: /nowhere.pem does not exist");
}

#[test]
fn client_certificates_are_shown_to_registries_that_ask() {
    // O-76
    requires!(docker_registry, skopeo, openssl);
    let env = TestEnv::new();
    let (ca, clients) = (Authority::new(env.dir(), "ca"), Authority::new(env.dir(), "clients"));
    let registry = restart(open(), &ca.issue("server", LOOPBACK), Some(&clients));
    let (host, name) = (registry.host(), registry.name("base:1"));
    let own = clients.issue("kiln", "DNS:kiln");
    let fill = |dir: &Path, own: &Pair| {
        fs::create_dir_all(dir).expect("create");
        fs::copy(ca.certificate(), dir.join("ca.crt")).expect("copy");
        fs::copy(&own.certificate, dir.join("client.cert")).expect("copy");
        fs::copy(&own.key, dir.join("client.key")).expect("copy");
    };
    let strict = ["pull", "--tls-verify", "--registry-ca", ca.certificate(), &name];
    let failed = env.kiln(&strict).fails(3);
    failed.says(&format!("error: {host}: TLS: the server requires a client certificate\n"));
    failed.says("hint: pass a certificate and its key in a directory, with --cert-dir DIR\n");
    let dir = env.dir().join("certs");
    fill(&dir, &own);
    let at = dir.to_str().expect("UTF-8");
    env.kiln(&["pull", "--tls-verify", "--cert-dir", at, &name]).ok();
    // Without verification, too: the registry verifies kiln.
    env.kiln(&["pull", "--cert-dir", at, &name]).ok();
    env.kiln(&["pull", &name]).fails(3).says("the server requires a client certificate");
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nLABEL a=b\n"));
    env.build(&["--tls-verify", "--cert-dir", at, "--pull", "-t", "app"], &context).ok();
    env.kiln(&["tag", "app", &registry.name("pushed")]).ok();
    env.kiln(&["push", "--tls-verify", "--cert-dir", at, &registry.name("pushed")]).ok();
    let (remote, list) = (format!("docker://{name}"), registry.name("list"));
    for args in [
        &["manifest", "inspect", &remote][..],
        &["manifest", "create", &list, &remote],
        &["manifest", "push", &list],
        &["imagetools", "create", "-t", &list, &name],
        &["imagetools", "inspect", &name],
    ] {
        env.kiln(&[args, &["--tls-verify", "--cert-dir", at]].concat()).ok();
    }
    let login = ["login", "-u", "me", "-p", "secret", "--tls-verify"];
    env.kiln(&[&login[..], &[&host]].concat()).fails(3);
    env.kiln(&[&login[..], &["--cert-dir", at, &host]].concat()).ok();
    for tool in ["containers", "docker"] {
        let dir = env.dir().join(format!("home/.config/{tool}/certs.d/{host}"));
        fill(&dir, &own);
        env.kiln(&["pull", "--tls-verify", &name]).ok();
        let app = registry.name("app:1");
        env.build(&["--tls-verify", "--pull", "--push", "-t", &app], &context).ok();
        fs::remove_dir_all(dir).expect("remove");
    }
    let foreign = ca.issue("foreign", "DNS:kiln");
    fill(&dir, &foreign);
    env.kiln(&["pull", "--tls-verify", "--cert-dir", at, &name])
        .fails(3)
        .says("TLS: the server refuses the client certificate");
}

#[test]
fn self_signed_certificate_is_trusted_if_named() {
    requires!(docker_registry, skopeo, openssl);
    let env = TestEnv::new();
    let mut registry = open();
    // `openssl req -x509` makes an authority; others do not.
    for (name, authority) in [("own-ca", true), ("own-leaf", false)] {
        let pair = self_signed(env.dir(), name, Some(LOOPBACK), authority);
        registry = restart(registry, &pair, None);
        let name = registry.name("base:1");
        env.kiln(&["pull", "--tls-verify", &name]).fails(3).says("signed by an unknown authority");
        env.kiln(&["pull", "--tls-verify", "--registry-ca", &pair.certificate, &name]).ok();
        env.kiln(&["pull", "--tls-verify", &name]).env("SSL_CERT_FILE", &pair.certificate).ok();
        // Its names count nevertheless.
        let local = name.replace("127.0.0.1", "localhost");
        let failed = env.kiln(&["pull", "--tls-verify", "--registry-ca", &pair.certificate, &local]).fails(3);
        failed.says("TLS: the certificate is for other names: 127.0.0.1, registry.test\n");
    }
    let dir = env.dir().join("leaf");
    fs::create_dir(&dir).expect("create");
    let ca = Authority::new(&dir, "unknown");
    let leaf = ca.issue("server", LOOPBACK);
    registry = restart(registry, &leaf, None);
    env.kiln(&["pull", "--tls-verify", "--registry-ca", &leaf.certificate, &registry.name("base:1")]).ok();
}

#[test]
fn failed_connections_name_their_cause() {
    requires!(docker_registry, skopeo, openssl);
    let env = TestEnv::new();
    let ca = Authority::new(env.dir(), "ca");
    let trust = ["pull", "--tls-verify", "--registry-ca", ca.certificate()];
    let pull = |name: &str| env.kiln(&[&trust[..], &[name]].concat());
    let expected = |name: &str, error: &str, hint: &str| {
        let done = pull(name).fails(3);
        assert_eq!(done.stderr, format!("error: {error}\nhint: {hint}\n"));
    };
    let mut registry = open();
    let host = registry.host();
    expected(
        &registry.name("base:1"),
        &format!("{host}: TLS: the server does not speak TLS"),
        &format!("if {host} speaks plain HTTP, use --insecure-registry {host}"),
    );
    registry = restart(registry, &ca.issue_expired("old", LOOPBACK), None);
    let host = registry.host();
    expected(
        &registry.name("base:1"),
        &format!("{host}: TLS: the certificate has expired at 2020-01-02T00:00:00Z"),
        &format!("renew the certificate of {host}, or set the clock of this machine"),
    );
    registry = restart(registry, &ca.issue("other", "DNS:other.test"), None);
    let host = registry.host();
    expected(
        &registry.name("base:1"),
        &format!("{host}: TLS: the certificate is for other names: other.test"),
        "use a name that the certificate is for",
    );
    drop(registry);
    expected(
        &format!("{host}/base:1"),
        &format!("https://{host}/v2/base/manifests/1: connection refused"),
        "check the port, and whether the server runs",
    );
}

/// Runs kiln where `registry.test` and `files.test` are names of this host, and the name server is `dns`.
pub(super) fn hosted(env: &TestEnv, args: &str, variables: &[(&str, &str)], dns: &str) -> (Option<i32>, String) {
    fs::write(env.dir().join("hosts"), "127.0.0.1 localhost registry.test files.test\n").expect("write");
    fs::write(env.dir().join("resolv.conf"), format!("nameserver {dns}\noptions timeout:1 attempts:1\n"))
        .expect("write");
    let mounts = "mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf";
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("{mounts} && exec \"$K\" {args}")])
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
}

#[test]
fn ca_cert_is_trusted_by_registries_urls_and_git() {
    requires!(root, docker_registry, skopeo, openssl, git);
    let env = TestEnv::new();
    let ca = Authority::new(env.dir(), "ca");
    let registry = restart(open(), &ca.issue("server", "DNS:registry.test,DNS:files.test"), None);
    let port = registry.host().rsplit_once(':').expect("a port").1.to_owned();
    let context = env.context(&format!(
        "-- Dockerfile --\nFROM registry.test:{port}/base:1\nADD https://files.test:{port}/v2/ /answer\n\
         -- git/Dockerfile --\nFROM scratch\nADD https://files.test:{port}/r.git /r\n"
    ));
    let at = context.display();
    let (code, said) = hosted(&env, &format!("build {at}"), &[], "127.0.0.77");
    assert!(code == Some(3) && said.contains("unknown authority"), "{said}");
    let registries_only = format!("build --registry-ca {} {at}", ca.certificate());
    let (code, said) = hosted(&env, &registries_only, &[], "127.0.0.77");
    assert!(code != Some(0) && said.contains(&format!("files.test:{port}: TLS: the certificate is signed")), "{said}");
    assert!(said.contains("if the certificate is of a private CA, name the CA's with --ca-cert FILE"), "{said}");
    let trusting = [format!("--ca-cert {}", ca.certificate()), String::new()];
    for (option, variables) in trusting.iter().zip([&[][..], &[("KILN_CA_CERT", ca.certificate())]]) {
        let (code, said) = hosted(&env, &format!("build --no-cache {option} -t app {at}"), variables, "127.0.0.77");
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(env.image("app").content("answer"), *b"{}");
    // What the server sends is no Dockerfile.
    let check = format!("check -f https://files.test:{port}/v2/");
    let (_, said) = hosted(&env, &format!("{check} {at}"), &[], "127.0.0.77");
    assert!(said.contains("unknown authority"), "{said}");
    let (_, said) = hosted(&env, &format!("{check} --ca-cert {} {at}", ca.certificate()), &[], "127.0.0.77");
    assert!(said.contains("unknown instruction"), "{said}");
    // The registry has no repository, but git gets as far as to ask for one.
    let (_, said) = hosted(&env, &format!("build {at}/git"), &[], "127.0.0.77");
    assert!(said.contains("certificate") && said.contains("--ca-cert FILE"), "{said}");
    let (_, said) = hosted(&env, &format!("build --ca-cert {} {at}/git", ca.certificate()), &[], "127.0.0.77");
    assert!(said.contains("not found") && !said.contains("certificate"), "{said}");
}
