//! Test `--ca-cert`: commands trust the authorities of their image and those of the file, and no image holds them.

use std::fs;

use crate::support::TestEnv;
use crate::support::certificates::Authority;
use crate::support::env::each_user;

const MARK: &str = "BEGIN CERTIFICATE";

/// An image with bundles in the places of Debian, Alpine and Fedora.
const BASE: &str = "
-- Dockerfile --
FROM busybox
COPY etc /etc
-- etc/ssl/certs/ca-certificates.crt --
own
-- etc/ssl/cert.pem -> certs/ca-certificates.crt --
-- etc/pki/tls/certs/ca-bundle.crt -> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem --
-- etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem --
fedora
";

/// A base image with bundles, and the authority of a network.
fn prepared(env: &TestEnv) -> Authority {
    env.build(&["-t", "base"], &env.context(BASE)).ok();
    let dir = env.dir().join("ca");
    fs::create_dir(&dir).expect("create");
    let authority = Authority::new(&dir, "company");
    // The plain user reads them.
    let status = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(&dir).status().expect("run chmod");
    assert!(status.success());
    authority
}

#[test]
fn run_trusts_given_authorities_without_trace() {
    requires!(userns, overlay, openssl);
    for env in each_user() {
        let ca = prepared(&env);
        let context = env.context(&format!(
            "-- Dockerfile --
FROM base
RUN for f in /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem; do \\
      grep -q own $f && test \"$(grep -c '{MARK}' $f)\" = 1 || exit 1; done; \\
    for f in /etc/pki/tls/certs/ca-bundle.crt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem; do \\
      grep -q fedora $f && test \"$(grep -c '{MARK}' $f)\" = 1 || exit 1; done
RUN for v in SSL_CERT_FILE NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE PIP_CERT CURL_CA_BUNDLE GIT_SSL_CAINFO; do \\
      eval \"f=\\$$v\"; grep -q own $f && grep -q '{MARK}' $f || exit 1; done
RUN ! (echo more >> /etc/ssl/certs/ca-certificates.crt) 2>/dev/null
ENV PIP_CERT=/own
RUN test $PIP_CERT = /own && test -n \"$SSL_CERT_FILE\"
ARG CURL_CA_BUNDLE=/arg
RUN test $CURL_CA_BUNDLE = /arg && touch /done
FROM busybox
RUN test ! -e /etc/ssl && test ! -e /etc/pki && grep -q '{MARK}' $SSL_CERT_FILE
"
        ));
        let option = ["--ca-cert", ca.certificate(), "--target", "0"];
        env.build(&[&option[..], &["-t", "app"]].concat(), &context).ok();
        env.build(&option[..2], &context).ok();
        let image = env.image("app");
        assert!(!image.config.to_string().contains("/dev/ca-"), "{}", image.config);
        let tree = image.tree();
        assert!(tree.has("done") && !tree.has("dev/ca-certificates.crt"), "{tree}");
        assert_eq!(image.content("etc/ssl/certs/ca-certificates.crt"), *b"own\n");
        // The layers of the commands that changed nothing are empty.
        let layers = image.diff_ids().len();
        for layer in layers - 5..layers - 1 {
            assert!(image.layer_tree(layer).0.keys().all(|path| path == "."), "{}", image.layer_tree(layer));
        }
        // In no key: nothing runs again with another authority, or with none.
        let other = Authority::new(&env.dir().join("ca"), "other");
        for args in [&["--ca-cert", other.certificate(), "--target", "0"][..], &["--target", "0"]] {
            let done = env.build(args, &context).ok();
            assert!(done.progress().ran().is_empty(), "{done}");
        }
        env.assert_swept();
    }
}

#[test]
fn run_can_replace_a_bundle_that_is_mounted_over() {
    requires!(userns, overlay, openssl);
    for env in each_user() {
        let ca = prepared(&env);
        // As update-ca-certificates does it: a new file is moved over the old one.
        let context = env.context(&format!(
            "-- Dockerfile --
FROM base
RUN echo new > /etc/ssl/certs/x && mv -f /etc/ssl/certs/x /etc/ssl/certs/ca-certificates.crt && \\
    test \"$(cat /etc/ssl/certs/ca-certificates.crt)\" = new && grep -q '{MARK}' $SSL_CERT_FILE
RUN grep -q new /etc/ssl/cert.pem && grep -q '{MARK}' /etc/ssl/cert.pem && rm /etc/ssl/certs/ca-certificates.crt
RUN test ! -e /etc/ssl/certs/ca-certificates.crt
"
        ));
        env.build(&["--ca-cert", ca.certificate(), "-t", "app"], &context).ok();
        let image = env.image("app");
        let layers = image.diff_ids().len();
        assert_eq!(image.layer_tree(layers - 3)["etc/ssl/certs/ca-certificates.crt"].size, 4);
        assert!(!image.tree().has("etc/ssl/certs/ca-certificates.crt"));
    }
}

#[test]
fn copied_roots_trust_given_authorities() {
    requires!(userns, openssl);
    let env = TestEnv::with_busybox();
    let ca = prepared(&env);
    let context = env.context(&format!(
        "-- Dockerfile --\nFROM base\nRUN grep -q own /etc/ssl/cert.pem && grep -q '{MARK}' /etc/ssl/cert.pem && touch /x\n"
    ));
    env.build(&["--ca-cert", ca.certificate(), "--snapshotter", "copy", "-t", "app"], &context).ok();
    let image = env.image("app");
    assert_eq!(image.content("etc/ssl/certs/ca-certificates.crt"), *b"own\n");
    let layer = image.layer_tree(image.diff_ids().len() - 1);
    assert!(layer.0.keys().all(|path| path == "." || path == "x"), "{layer}");
}

#[test]
fn update_ca_certificates_writes_the_bundle_of_the_image() {
    requires!(userns, overlay, openssl);
    let env = TestEnv::with("python");
    let dir = env.dir().join("ca");
    fs::create_dir(&dir).expect("create");
    let (company, own) = (Authority::new(&dir, "company"), Authority::new(&dir, "own"));
    let pem = |authority: &Authority| fs::read_to_string(authority.certificate()).expect("read");
    let context = env.context(&format!(
        "-- Dockerfile --
FROM python AS base
COPY own.crt /usr/local/share/ca-certificates/
FROM base AS app
RUN update-ca-certificates
RUN grep -q '{MARK}' $SSL_CERT_FILE && touch /later
FROM base AS plain
RUN update-ca-certificates
-- own.crt --
{}",
        pem(&own)
    ));
    // The lines of the certificate that no other certificate has.
    let body = |authority: &Authority| pem(authority).lines().nth(2).expect("a line").to_owned();
    let option = ["--ca-cert", company.certificate()];
    env.build(&[&option[..], &["--target", "app", "-t", "app"]].concat(), &context).ok();
    env.build(&["--no-cache", "--target", "plain", "-t", "plain"], &context).ok();
    let image = env.image("app");
    let bundle = String::from_utf8(image.content("etc/ssl/certs/ca-certificates.crt")).expect("text");
    assert!(bundle.contains(&body(&own)), "the image's own authority was added");
    assert!(!bundle.contains(&body(&company)), "the company's was not");
    assert_eq!(bundle.into_bytes(), env.image("plain").content("etc/ssl/certs/ca-certificates.crt"));
    // Nothing else in the layer names it either.
    let layers = image.diff_ids().len();
    let (with, without) = (image.layer_tree(layers - 2), env.image("plain").layer_tree(layers - 2));
    assert_eq!(with.0.keys().collect::<Vec<_>>(), without.0.keys().collect::<Vec<_>>());
    assert!(with.has("etc/ssl/certs/ca-certificates.crt"), "{with}");
    env.assert_swept();
}

#[test]
fn keystore_of_java_is_reported_once() {
    requires!(userns, overlay, openssl);
    let env = TestEnv::with_busybox();
    let ca = prepared(&env);
    let option = ["--ca-cert", ca.certificate(), "--no-cache"];
    let said = |path: &str| {
        format!(
            "note: Java does not trust --ca-cert: its keystore {path} stays as it is (import the certificate in a RUN with \
             keytool -importcert -cacerts -storepass changeit -noprompt -file FILE)\n"
        )
    };
    for (home, path) in [
        ("", "/etc/ssl/certs/java/cacerts"),
        ("/opt/jdk", "/opt/jdk/lib/security/cacerts"),
        ("/opt/jdk8/", "/opt/jdk8/jre/lib/security/cacerts"),
    ] {
        let context = env.context(&format!(
            "-- Dockerfile --\nFROM base\nENV JAVA_HOME={home}\nCOPY cacerts {path}\nRUN true\nRUN grep -q store {path}\n\
             -- cacerts --\nstore\n"
        ));
        let done = env.build(&option, &context).ok();
        assert_eq!(done.stderr.matches(&said(path)).count(), 1, "{done}");
        env.build(&option[2..], &context).ok().never_says("keystore");
        let json = env.build(&[&option[..], &["--progress", "json"]].concat(), &context).ok();
        assert_eq!(json.stderr.matches("keytool").count() + json.stdout.matches("keytool").count(), 1, "{json}");
    }
    let context = env.context("-- Dockerfile --\nFROM base\nENV JAVA_HOME=/opt/jdk\nRUN true\n");
    env.build(&option, &context).ok().never_says("keystore");
}
