//! Test registry credentials: Docker's config file, containers' auth file, credential helpers (O-76, S-58, S-114).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::canary::leaks;
use crate::support::env::fixture;
use crate::support::{Registry, TestEnv};

/// User `kiln` with the password `secret-z9q7x-canary`, hashed once by crypt(3).
pub(super) const HTPASSWD: &str = "kiln:$2y$05$abcdefghijklmnopqrstuuSIBJ2c/OmurAGYN8PrgiBzK3QIbHsQm\n";
pub(super) const PASSWORD: &str = "secret-z9q7x-canary";

/// A registry that requires a password and has one image, and the full name of the image.
fn guarded() -> (Registry, String) {
    let open = Registry::start();
    open.push_layout(&fixture("busybox").join("layout"), "latest", "private/base:1");
    let file = open.data().with_file_name("htpasswd");
    fs::write(&file, HTPASSWD).expect("write");
    let guarded = open.restart_with(&format!("auth:\n  htpasswd:\n    realm: kiln\n    path: {}\n", file.display()));
    let name = guarded.name("private/base:1");
    (guarded, name)
}

fn config(env: &TestEnv, text: &str) {
    let dir = env.dir().join("home/.docker");
    fs::create_dir_all(&dir).expect("create");
    fs::write(dir.join("config.json"), text).expect("write");
}

/// `user:password` in the encoding of credential files.
fn encoded(password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("kiln:{password}"))
}

#[test]
fn docker_config_password_is_used_and_not_stored() {
    // S-114, S-58
    requires!(docker_registry, skopeo);
    let (registry, name) = guarded();
    let env = TestEnv::new();
    env.kiln(&["pull", &name])
        .fails(1)
        .says("denied access (no credentials for it)")
        .says("hint: log in with kiln login 127.0.0.1")
        .never_says(PASSWORD);
    config(&env, &format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.host(), encoded("wrong")));
    env.kiln(&["pull", &name]).fails(1).says("denied access").says("the credentials are wrong or have expired");
    config(&env, &format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.host(), encoded(PASSWORD)));
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nCOPY Dockerfile /\n"));
    env.build(&["-t", "app"], &context).ok().never_says(PASSWORD);
    assert!(leaks(&env.store(), PASSWORD).is_empty());
    assert!(leaks(&env.store(), &encoded(PASSWORD)).is_empty());
    config(&env, "{ not json");
    env.kiln(&["pull", &name]).fails(2).says("config.json");
}

#[test]
fn unusable_credential_file_warns_if_not_needed() {
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let env = TestEnv::new();
    let name = registry.name("base:1");
    for (text, warned) in [("", false), ("  \n", false), ("{}", false), ("{", true), ("{\"auths\":7}", true)] {
        config(&env, text);
        let done = env.kiln(&["pull", &name]).ok();
        let warning = "config.json: not a credential file (line 1, column ";
        let warns = |line: &str| line.starts_with("warning: ") && line.contains(warning);
        assert_eq!(done.stderr.lines().any(warns), warned, "{text:?}: {done}");
    }
    let file = env.dir().join("home/.docker/config.json");
    fs::remove_file(&file).expect("remove");
    fs::create_dir(&file).expect("create");
    env.kiln(&["pull", &name]).ok().says("warning: ").says("config.json: ");
}

#[test]
fn credential_file_locations_are_configurable() {
    // O-76
    requires!(docker_registry, skopeo);
    let (registry, name) = guarded();
    let env = TestEnv::new();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.host(), encoded(PASSWORD));
    let elsewhere = env.dir().join("elsewhere");
    fs::create_dir_all(elsewhere.join("containers")).expect("create");
    fs::write(elsewhere.join("config.json"), &text).expect("write");
    fs::write(elsewhere.join("containers/auth.json"), &text).expect("write");
    let dir = elsewhere.to_str().expect("UTF-8");
    let file = format!("{dir}/config.json");
    for (variable, value) in [
        ("DOCKER_CONFIG", dir),
        ("XDG_RUNTIME_DIR", dir),
        ("XDG_CONFIG_HOME", dir),
        ("REGISTRY_AUTH_FILE", &file),
        ("DOCKER_AUTH_CONFIG", &text),
    ] {
        env.kiln(&["pull", &name]).env(variable, value).ok();
        env.kiln(&["rmi", &name]).ok();
        env.kiln(&["prune", "--all"]).ok();
    }
    env.kiln(&["pull", &name]).env("REGISTRY_AUTH_FILE", "/nowhere.json").fails(2).says("/nowhere.json");
    env.kiln(&["pull", "--authfile", "/nowhere.json", &name]).fails(2).says("--authfile: /nowhere.json does not exist");
    env.kiln(&["pull", "--authfile", &file, &name]).ok();
    env.kiln(&["push", &name]).fails(1);
    env.kiln(&["push", "--authfile", &file, &name]).ok();
    let (forced, list) = (format!("docker://{name}"), format!("{}/list:1", registry.host()));
    let tagged = format!("{}/private/list:2", registry.host());
    for args in [
        &["manifest", "create", &list, &forced][..],
        &["manifest", "push", &list],
        &["manifest", "inspect", &forced],
        &["imagetools", "create", "-t", &tagged, &name],
        &["imagetools", "inspect", &name],
    ] {
        let (command, authfile) = (&args[..2], ["--authfile", &file]);
        env.kiln(args).fails(1).says("denied access");
        env.kiln(&[command, &authfile[..], &args[2..]].concat()).ok();
    }
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nLABEL a=b\n"));
    env.build(&["--pull"], &context).fails(1);
    env.build(&["--pull", "--authfile", &file], &context).ok();
}

#[test]
fn credential_helper_may_refuse_root_of_user_namespaces() {
    // O-76
    requires!(root, kiln_test, userns, overlay, docker_registry, skopeo);
    let (registry, name) = guarded();
    let env = TestEnv::of_plain_user();
    let bin = env.dir().join("bin");
    fs::create_dir(&bin).expect("create");
    let helper = bin.join("docker-credential-picky");
    let script = format!(
        "#!/bin/sh\n[ \"$(id -u)\" != 0 ] || {{ echo 'the session is not yours'; exit 3; }}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"kiln\",\"Secret\":\"{PASSWORD}\"}}'\n"
    );
    fs::write(&helper, script).expect("write");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("chmod");
    config(&env, &format!(r#"{{"credHelpers":{{"{}":"picky"}}}}"#, registry.host()));
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    // In this order: the first finds nothing in the store.
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nRUN touch /x\n"));
    let pushed = registry.name("private/app:1");
    env.build(&["--push", "-t", &pushed], &context).env("PATH", &path).ok();
    for command in [&["pull", &name][..], &["run", "--pull=always", &name, "true"]] {
        env.kiln(&["rmi", &name]).output();
        env.kiln(&["rmi", &pushed]).output();
        env.kiln(&["prune", "--all"]).ok();
        env.kiln(command).env("PATH", &path).ok().never_says(PASSWORD);
    }
    assert!(leaks(&env.store(), PASSWORD).is_empty());
}

#[test]
fn credential_helpers_are_run_by_name() {
    // O-76
    requires!(docker_registry, skopeo);
    let (registry, name) = guarded();
    let env = TestEnv::new();
    let bin = env.dir().join("bin");
    fs::create_dir(&bin).expect("create");
    let helper = |name: &str, script: &str| {
        let path = bin.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    let asked = env.dir().join("asked");
    helper(
        "good",
        &format!(
            "cat >> {0}; echo \" $1\" >> {0}\necho '{{\"ServerURL\":\"x\",\"Username\":\"kiln\",\"Secret\":\"{PASSWORD}\"}}'",
            asked.display()
        ),
    );
    helper("none", "echo 'credentials not found in native keychain'; exit 1");
    helper("broken", "echo 'the vault is sealed'; exit 3");
    helper("loud", "echo 'no key for the vault' >&2; exit 3");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let pull = |text: &str| {
        config(&env, text);
        env.kiln(&["pull", &name]).env("PATH", &path)
    };
    let host = registry.host();
    pull(&format!(r#"{{"credHelpers":{{"{host}":"none"}}}}"#)).fails(1).says("no credentials for it");
    pull(&format!(r#"{{"credHelpers":{{"{host}":"broken"}}}}"#))
        .fails(2)
        .says("docker-credential-broken")
        .says("sealed");
    pull(&format!(r#"{{"credHelpers":{{"{host}":"loud"}}}}"#))
        .fails(2)
        .says("docker-credential-loud: no key for the vault");
    pull(&format!(r#"{{"credHelpers":{{"{host}":"missing"}}}}"#)).fails(2).says("docker-credential-missing");
    pull(&format!(r#"{{"credHelpers":{{"{host}":"good"}}}}"#)).ok().never_says(PASSWORD);
    assert_eq!(fs::read_to_string(&asked).expect("it was asked").trim(), format!("{host} get"));
    env.kiln(&["rmi", &name]).ok();
    env.kiln(&["prune", "--all"]).ok();
    pull(r#"{"credsStore":"good"}"#).ok();
    assert!(leaks(&env.store(), PASSWORD).is_empty());
}

#[test]
fn credential_helper_name_cannot_be_a_path() {
    // S-16
    requires!(docker_registry, skopeo);
    let (_registry, name) = guarded();
    let host = name.split('/').next().expect("a host");
    let env = TestEnv::new();
    let dir = env.dir().join("home/.docker");
    std::fs::create_dir_all(&dir).expect("create");
    // The program that would run if the name were part of a path.
    let evil = env.context("-- docker-credential-x/a --\n-- evil 0755 --\n#!/bin/sh\ntouch ran\n");
    for helper in ["x/../evil", "/../evil", "../evil", "", "a b", "-x\n"] {
        let config = serde_json::json!({"credHelpers": {host: helper}});
        std::fs::write(dir.join("config.json"), config.to_string()).expect("write");
        let done = env.kiln(&["pull", &name]).dir(&evil).output();
        assert!(done.code != 0 && !evil.join("ran").exists(), "{helper:?}: {done}");
        if !helper.is_empty() {
            done.says("not the name of a credential helper");
        }
    }
}
