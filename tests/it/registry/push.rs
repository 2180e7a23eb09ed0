//! Test `kiln push`, `build --push`, `login` and `logout` with Debian's registry; other tools read what was pushed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::access::{HTPASSWD, PASSWORD};
use crate::support::{Image, Registry, TestEnv};

/// The digest and the raw manifest that skopeo sees.
fn skopeo(name: &str, config: &[&str]) -> String {
    let out = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false"])
        .args(config)
        .arg(format!("docker://{name}"))
        .output()
        .expect("run skopeo");
    assert!(out.status.success(), "skopeo inspect: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// The digest in kiln's last line: `1.0: digest: sha256:… size: N`.
fn digest(line: &str) -> String {
    line.split_whitespace().find(|word| word.starts_with("sha256:")).expect("a digest").to_owned()
}

#[test]
fn pushed_image_is_what_other_tools_pull() {
    // O-61
    requires!(userns, overlay, docker_registry, skopeo, umoci);
    let (registry, env) = (Registry::start(), TestEnv::with_busybox());
    let (first, second) = (registry.name("team/app:1.0"), registry.name("team/app:1.1"));
    // Hard links, owners, modes, a deleted file and an empty directory, in several layers.
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nLABEL x=y\nCOPY --chown=7:8 --chmod=640 a /a\n\
         RUN ln /a /b && mkdir -m 700 /empty && ln -s nowhere /link && echo gone > /gone\nRUN rm /gone && chmod u+s /b\n\
         -- a --\ncontent\n",
    );
    env.build(&["-t", &first], &context).ok();
    let pushed = env.kiln(&["push", &first]).ok().stdout;
    let pushed = digest(&pushed);
    assert!(env.kiln(&["inspect", &first]).ok().stdout.contains(&pushed));
    let seen: serde_json::Value = serde_json::from_str(&skopeo(&first, &[])).expect("JSON");
    assert_eq!(seen["Digest"], pushed.as_str());
    assert_eq!(seen["Labels"]["x"], "y");
    let layout = env.dir().join("layout");
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
        .args([format!("docker://{first}"), format!("oci:{}:x", layout.display())])
        .status();
    assert!(copied.expect("run skopeo").success());
    let copied = Image::open(&layout, "x");
    assert_eq!(copied.digest, pushed);
    let tree = copied.umoci_tree();
    assert_eq!(tree, env.image(&first).umoci_tree());
    assert!(tree.0.contains_key("empty") && !tree.0.contains_key("gone"));
    assert_eq!(fs::read_to_string(copied.umoci_dir().path().join("tree/b")).expect("read"), "content\n");
    // Another tag of the same image costs three questions and one manifest.
    env.kiln(&["tag", &first, &second]).ok();
    let before = registry.requests("PUT ");
    let again = env.kiln(&["push", &second]).ok();
    again.says("sent 0 blobs");
    assert_eq!(digest(&again.stdout), pushed);
    assert_eq!(registry.requests("PUT ") - before, 1);
    // What kiln pushed, kiln pulls elsewhere.
    let other = TestEnv::new();
    assert!(other.kiln(&["pull", &second]).ok().stdout.contains(&pushed));
}

#[test]
fn base_layers_are_mounted_and_not_sent() {
    // O-61
    requires!(docker_registry, skopeo);
    let (registry, env) = (Registry::start(), TestEnv::new());
    let base =
        registry.push_layout(&crate::support::env::fixture("busybox").join("layout"), "latest", "base/busybox:1");
    let app = registry.name("team/app:1");
    let context = env.context(&format!("-- Dockerfile --\nFROM {base}\nCOPY Dockerfile /\n"));
    let built = env.build(&["-t", &app, "--push"], &context).ok();
    built.says("sent 2 blobs").says("1 taken from other repositories");
    let seen: serde_json::Value = serde_json::from_str(&skopeo(&app, &[])).expect("JSON");
    assert_eq!(seen["Layers"].as_array().expect("layers").len(), 2);
}

#[test]
fn build_pushes_what_its_outputs_ask_for() {
    // O-60, O-61
    requires!(docker_registry, skopeo);
    let (registry, env) = (Registry::start(), TestEnv::new());
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    for (number, output) in ["type=registry", "type=image,push=true"].into_iter().enumerate() {
        let name = registry.name(&format!("app:{number}"));
        let names = format!("{output},\"name={name},{name}-b\"");
        env.build(&["-o", &names], &context).ok();
        assert_eq!(skopeo(&name, &["--format={{.Digest}}"]), skopeo(&format!("{name}-b"), &["--format={{.Digest}}"]));
    }
    let quiet = env.build(&["-q", "--push", "-t", &registry.name("app:q")], &context).ok();
    assert_eq!(quiet.stdout.lines().count(), 1, "the image id and nothing else");
    env.build(&["--push"], &context).fails(2).says("a push needs the name of the image");
    env.build(&["-o", "type=image", "-t", "local"], &context).ok();
    // The image has its names although the push fails.
    env.build(&["--push", "-t", "127.0.0.1:1/app"], &context).fails(3).says("connection refused");
    env.kiln(&["inspect", "127.0.0.1:1/app"]).ok();
}

#[test]
fn push_takes_several_names_and_all_tags() {
    requires!(docker_registry, skopeo);
    let (registry, env) = (Registry::start(), TestEnv::new());
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    let names = ["app:1", "app:2", "other:1"].map(|name| registry.name(name));
    env.build(&["-t", &names[0], "-t", &names[1], "-t", &names[2]], &context).ok();
    let quiet = env.kiln(&["push", "-q", "--all-tags", &registry.name("app")]).ok().stdout;
    assert_eq!(quiet.lines().collect::<Vec<_>>(), [&names[0], &names[1]]);
    let file = env.dir().join("digest");
    env.kiln(&["push", "--digestfile", file.to_str().expect("UTF-8"), &names[2]]).ok();
    assert_eq!(fs::read_to_string(&file).expect("read"), skopeo(&names[2], &["--format={{.Digest}}"]).trim());
    env.kiln(&["push", "--all-tags", "nothing"]).fails(1).says("no image has a tag of");
    env.kiln(&["push", &registry.name("missing")]).fails(1).says("no image named").says("hint: list images");
    env.kiln(&["push", "--digestfile", "x", &names[0], &names[1]]).fails(2).says("the digest of one image");
}

/// A registry that requires a password.
pub(super) fn guarded() -> Registry {
    let open = Registry::start();
    let file = open.data().with_file_name("htpasswd");
    fs::write(&file, HTPASSWD).expect("write");
    open.restart_with(&format!("auth:\n  htpasswd:\n    realm: kiln\n    path: {}\n", file.display()))
}

#[test]
fn login_push_logout() {
    // O-76
    requires!(docker_registry, skopeo);
    let (registry, env) = (guarded(), TestEnv::new());
    let (host, app) = (registry.host(), registry.name("app:1"));
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    env.build(&["-t", &app], &context).ok();
    env.kiln(&["push", &app])
        .fails(1)
        .says("denied access (no credentials for it)")
        .says(&format!("hint: log in with kiln login {host}"));
    let login =
        |password: &str| env.kiln(&["login", "-u", "kiln", "--password-stdin", &host]).stdin(password.as_bytes());
    let file = env.dir().join("home/.docker/config.json");
    login("wrong\n").fails(1).says("denied access: 401");
    assert!(!file.exists(), "a refused password is not stored");
    fs::create_dir_all(file.parent().expect("a directory")).expect("create");
    fs::write(&file, r#"{"auths":{"r.example":{"auth":"eDp5"}},"detachKeys":"ctrl-a"}"#).expect("write");
    let done = login(&format!("{PASSWORD}\n"));
    done.ok().says("Login Succeeded").never_says(PASSWORD);
    assert_eq!(fs::metadata(&file).expect("stat").permissions().mode() & 0o777, 0o600);
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    assert_eq!((&kept["detachKeys"], &kept["auths"]["r.example"]["auth"]), (&"ctrl-a".into(), &"eDp5".into()));
    env.kiln(&["push", &app]).ok();
    // Other tools read what the login stored.
    let read = skopeo(&app, &["--authfile", file.to_str().expect("UTF-8"), "--format={{.Digest}}"]);
    assert!(read.starts_with("sha256:"));
    env.kiln(&["logout", &host]).ok().says("Removed the login credentials");
    env.kiln(&["logout", &host]).ok().says("Not logged in");
    env.kiln(&["push", &app]).fails(1).says("denied access");
    assert!(!fs::read_to_string(&file).expect("read").contains(&host));
}

#[test]
fn login_uses_the_helper_that_the_file_names() {
    // O-76
    requires!(docker_registry);
    let (registry, env) = (guarded(), TestEnv::new());
    let (host, bin) = (registry.host(), env.dir().join("bin"));
    fs::create_dir_all(&bin).expect("create");
    let kept = env.dir().join("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0} ;;\nget) [ -s {0} ] && cat {0} || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;\n\
         erase) rm {0} ;;\nesac\n",
        kept.display()
    );
    let helper = bin.join("docker-credential-test");
    fs::write(&helper, script).expect("write");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("chmod");
    let file = env.dir().join("home/.docker/config.json");
    fs::create_dir_all(file.parent().expect("a directory")).expect("create");
    fs::write(&file, r#"{"credsStore":"test"}"#).expect("write");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let kiln = |args: &[&str], input: &str| env.kiln(args).env("PATH", &path).stdin(input.as_bytes());
    kiln(&["login", "-u", "kiln", "--password-stdin", &host], PASSWORD).ok().never_says("stored as it is");
    assert!(fs::read_to_string(&kept).expect("read").contains(PASSWORD));
    let text = fs::read_to_string(&file).expect("read");
    assert!(text.contains(&host) && !text.contains(PASSWORD), "{text}");
    kiln(&["logout", &host], "").ok();
    assert!(!kept.exists());
    fs::write(&helper, "#!/bin/sh\necho locked; exit 1\n").expect("write");
    kiln(&["login", "-u", "kiln", "--password-stdin", &host], PASSWORD).fails(2).says("docker-credential-test: locked");
}

#[test]
fn login_uses_the_file_that_it_is_given() {
    // O-76
    requires!(docker_registry);
    let (registry, env) = (guarded(), TestEnv::new());
    let (host, file) = (registry.host(), env.dir().join("auth.json"));
    let path = file.to_str().expect("UTF-8");
    let login = |args: &[&str]| {
        env.kiln(&[&["login", "-u", "kiln", "--password-stdin"], args].concat()).stdin(PASSWORD.as_bytes())
    };
    login(&["--authfile", path, &host]).ok();
    assert!(fs::read_to_string(&file).expect("read").contains(&host));
    env.kiln(&["logout", "--authfile", path, &host]).ok().says("Removed");
    login(&[&host]).env("REGISTRY_AUTH_FILE", path).ok();
    assert!(fs::read_to_string(&file).expect("read").contains(&host));
    assert!(!env.dir().join("home/.docker/config.json").exists());
    fs::write(&file, "{ broken").expect("write");
    login(&["--authfile", path, &host]).fails(2).says("not a credential file (line 1, column 3)");
    assert_eq!(fs::read_to_string(&file).expect("read"), "{ broken");
}

#[test]
fn login_says_what_is_missing() {
    let env = TestEnv::new();
    env.kiln(&["login", "r.example"]).fails(2).says("the user name is missing");
    env.kiln(&["login", "-u", "x", "r.example"]).fails(2).says("--password-stdin");
    env.kiln(&["login", "-u", "x", "--password-stdin", "r.example"])
        .stdin(b"\n")
        .fails(2)
        .says("the password is empty");
    env.kiln(&["login", "-u", "x", "-p", "y", "no registry"]).fails(2).says("is not a registry");
    env.kiln(&["login", "-u", "x", "-p", "secret-y", "127.0.0.1:1"])
        .fails(3)
        .says("connection refused")
        .says("warning: other users can see")
        .never_says("secret-y");
}
