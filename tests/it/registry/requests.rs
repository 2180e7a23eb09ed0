//! Test how many requests a pull takes: round trips are what slow lines wait for.

use super::hostile::{EMPTY, MANIFEST, image};
use crate::support::image::sha256;
use crate::support::requires::is_root;
use crate::support::{Reply, Request, Server, TestEnv};

/// A registry with the image `app:1`, which wants tokens of its own token server.
fn guarded() -> Server {
    let (config, manifest) = image(&EMPTY, &format!("sha256:{}", sha256(&EMPTY)));
    let digest = format!("sha256:{}", sha256(&manifest));
    let of_blobs =
        [&EMPTY[..], &config].map(|bytes| (format!("/v2/app/blobs/sha256:{}", sha256(bytes)), bytes.to_vec()));
    Server::start(move |request: &Request| {
        let own = request.header("host").unwrap_or_default();
        let realm = format!(r#"Bearer realm="http://{own}/token",service="s",scope="repository:app:pull""#);
        match (request.target.as_str(), request.header("authorization")) {
            (target, None) if target.starts_with("/token?") => Reply::new(200, r#"{"token":"good"}"#),
            (_, None) => {
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                Reply::new(401, body).with("www-authenticate", realm)
            }
            (target, Some("Bearer good")) if target.starts_with("/v2/app/manifests/") => {
                Reply::new(200, &*manifest).with("content-type", MANIFEST).with("docker-content-digest", &digest)
            }
            (target, Some("Bearer good")) => match of_blobs.iter().find(|(of, _)| of == target) {
                Some((_, bytes)) => Reply::new(200, &**bytes),
                None => Reply::new(404, ""),
            },
            _ => Reply::new(403, ""),
        }
    })
}

/// The requests after the first `skip`, each as its method and the last but one part of its path.
fn asked(server: &Server, skip: usize) -> Vec<String> {
    let kind = |request: &Request| {
        let path = request.target.split('?').next().unwrap_or_default();
        let kind = path.rsplit('/').find(|part| ["token", "manifests", "blobs"].contains(part));
        format!("{} {}", request.method, kind.unwrap_or(path))
    };
    server.log()[skip..].iter().map(kind).collect()
}

#[test]
fn pull_of_new_name_takes_five_requests() {
    // The refused one, the token, the manifest, config and layer: all through one connection.
    let server = guarded();
    let env = TestEnv::new();
    let name = format!("{}/app:1", server.authority);
    env.kiln(&["pull", &name]).ok();
    let documents = ["GET manifests", "GET token", "GET manifests", "GET blobs"];
    if !is_root() {
        // A plain user's layers are fetched by a process in a user namespace, which needs a token of its own.
        assert_eq!(asked(&server, 0), [&documents[..], &["GET blobs", "GET token", "GET blobs"]].concat());
        return;
    }
    assert_eq!(asked(&server, 0), [&documents[..], &["GET blobs"]].concat());
    assert_eq!(server.connections(), 1);
    // Of a name that the store has, registries are asked in the way that they do not count as a pull.
    let before = server.log().len();
    env.kiln(&["pull", &name]).ok();
    assert_eq!(asked(&server, before), ["HEAD manifests", "GET token", "HEAD manifests"]);
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nLABEL a=b\n"));
    let before = server.log().len();
    env.build(&["--pull"], &context).ok();
    assert_eq!(asked(&server, before), ["HEAD manifests", "GET token", "HEAD manifests"]);
    // A build that pulls nothing else asks as little.
    let other = TestEnv::new();
    let context = other.context(&format!("-- Dockerfile --\nFROM {name}\nLABEL a=b\n"));
    let before = server.log().len();
    other.build(&[], &context).ok();
    assert_eq!(asked(&server, before)[..4], ["GET manifests", "GET token", "GET manifests", "GET blobs"]);
}
