//! An image that installs Debian packages, from a Dockerfile with deprecated instructions and spellings.

use serde_json::json;

use crate::support::{Image, TestEnv};

/// Files of the installed packages that do not belong to root.
const OWNED: [(&str, u32, &str, &str); 3] = [
    // Setuid and setgid for the user of `at`, set by a maintainer script.
    ("usr/bin/at", 0o6755, "daemon", "daemon"),
    ("var/spool/cron/atjobs", 0o1770, "daemon", "daemon"),
    ("var/log/proxy", 0o2750, "www-data", "adm"),
];

fn check(image: &Image) {
    let tree = image.tree();
    let id = |file: &str, name: &str| -> u64 {
        let text = String::from_utf8(image.content(file)).expect("UTF-8");
        let line =
            text.lines().find(|l| l.split(':').next() == Some(name)).unwrap_or_else(|| panic!("{name} in {file}"));
        line.split(':').nth(2).and_then(|n| n.parse().ok()).expect("an id")
    };
    for (path, mode, user, group) in OWNED {
        let node = &tree[path];
        assert_eq!((node.mode, node.uid, node.gid), (mode, id("etc/passwd", user), id("etc/group", group)), "{path}");
    }
    assert!(tree.has("usr/bin/tinyproxy") && tree.has("usr/bin/file"));
    // `apt-get clean` creates an empty directory and a lock.
    let lists = tree.below("var/lib/apt/lists");
    assert!(lists.0.values().all(|node| node.size == 0), "cleaned up: {lists:?}");
    assert_eq!(image.config["author"], "Web Team <web@example.org>");
    let config = &image.config["config"];
    assert_eq!(config["ExposedPorts"], json!({"443/tcp": {}, "80/tcp": {}}));
    assert!(config["Env"].as_array().expect("Env").contains(&json!("DEBIAN_FRONTEND=noninteractive")));
}

#[test]
fn installed_packages_keep_owners_and_modes_in_layers() {
    requires!(userns, overlay);
    let env = TestEnv::with("debian");
    let app = env.app("proxy");
    env.build(&["-t", "proxy"], &app).ok();
    let image = env.image("proxy");
    check(&image);
    image.skopeo_check();
    assert!(env.build(&["-t", "proxy"], &app).ok().progress().ran().is_empty());
    env.kiln(&["run", "--rm", "proxy", "tinyproxy", "-v"]).ok().says("tinyproxy");
    env.assert_swept();
    if crate::support::requires::is_root() && crate::support::requires::have("kiln_test") {
        as_plain_user_too(&image);
    }
}

/// Builds as a plain user: owners, modes, links and contents are the same, except for files that contain dates.
fn as_plain_user_too(root: &Image) {
    let env = TestEnv::of_plain_user();
    env.import("debian");
    env.build(&["-t", "proxy"], &env.app("proxy")).ok();
    let plain = env.image("proxy");
    check(&plain);
    let steady = |image: &Image| {
        let mut tree = image.tree().without_times();
        for (path, node) in &mut tree.0 {
            if path.starts_with("var/log/") || path.starts_with("var/cache/") {
                (node.size, node.content) = (0, String::new());
            }
        }
        tree
    };
    steady(root).assert_same(&steady(&plain));
}
