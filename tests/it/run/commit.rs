//! Test `kiln run --commit`.

use crate::support::TestEnv;

#[test]
fn commit_stores_changes_of_successful_command() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let script = "grep -q other /etc/hostname || exit; echo v2 > /etc/version; rm /etc/group; mkdir -m 700 /new; chown 33:34 /new";
    env.kiln(&[
        "run",
        "-e",
        "X=1",
        "-u",
        "0",
        "--hostname",
        "other",
        "--commit",
        "changed:1",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    let (base, image) = (env.image("busybox"), env.image("changed:1"));
    assert_eq!(image.layers.len(), base.layers.len() + 1);
    // Environment and user of the run do not change the config.
    assert_eq!(image.config["config"], base.config["config"]);
    let layer = image.layer_tree(base.layers.len());
    let names: Vec<&str> = layer.names().into_iter().filter(|name| ![".", "etc"].contains(name)).collect();
    assert_eq!(names, ["etc/group", "etc/version", "new"]);
    assert_eq!(layer["etc/group"].kind, "whiteout");
    assert_eq!((layer["new"].mode, layer["new"].uid, layer["new"].gid), (0o700, 33, 34));
    let done = env.kiln(&["run", "changed:1", "cat", "/etc/version"]).ok();
    assert_eq!(&*done, "v2");
    env.kiln(&["history", "changed:1"]).ok().says("sh -c grep -q");
    env.assert_swept();
}

#[test]
fn commit_creates_no_image_if_command_fails() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let done = env.kiln(&["run", "--commit", "never", "busybox", "sh", "-c", "echo x > /x; exit 3"]).fails(3);
    done.says("note: never:latest was not created: the command failed");
    env.kiln(&["inspect", "never"]).fails(1);
    env.assert_swept();
}
