//! A Node application whose `.dockerignore` excludes local `node_modules` and a secret.

use crate::support::{TestEnv, canary};

use super::Served;

#[test]
fn ticker_builds_without_ignored_files_and_serves() {
    requires!(userns, overlay);
    let env = TestEnv::with("node");
    let app = env.app("ticker");
    let secret = canary::text();
    env.add(
        &app,
        &format!(
            "-- .env --\nAPI_KEY={secret}\n-- debug.log --\n{secret}\n-- node_modules/shout/index.js --\n// {secret}\n"
        ),
    );
    let done = env.build(&["-t", "ticker"], &app).ok();
    done.says("selftest passed");
    let image = env.image("ticker");
    image.skopeo_check();
    let tree = image.tree();
    assert!(!tree.has("srv/ticker/.env") && !tree.has("srv/ticker/debug.log"));
    assert!(tree.has("srv/ticker/node_modules/shout/index.js"), "what npm installed is there");
    assert_eq!(canary::leaks(&env.store(), &secret), [""; 0].map(std::path::PathBuf::from), "anywhere in the store");

    let server = Served::start(&env, "ticker");
    assert_eq!(server.get("/"), "TICK! uid 65534 secret none\n");
    drop(server);

    // Counter-test of the search: without the ignore rule, the secret is in a layer.
    std::fs::write(app.join(".dockerignore"), "node_modules\n*.log\n").expect("write");
    env.build(&["-t", "careless"], &app).ok();
    assert_eq!(env.image("careless").content("srv/ticker/.env"), format!("API_KEY={secret}\n").as_bytes());
    assert!(!canary::leaks(&env.store().join("blobs"), &secret).is_empty());
}
