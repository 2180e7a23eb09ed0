//! Test the commands of a tutorial with `docker` being kiln: log in, build, test, run, tag, push, roll back. Against a
//! registry with passwords, one with passwords and a certificate of a private authority, and one with a token server.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::access::PASSWORD;
use super::push::guarded;
use crate::support::canary::leaks;
use crate::support::env::binary;
use crate::support::tokens::REFRESH;
use crate::support::{Registry, TestEnv, Tokens};

/// Prints nothing but what its last lines compare.
const SCRIPT: &str = r#"
set -eu
echo "$PASSWORD" | docker login -u kiln --password-stdin "$HOST"
docker build --rm -t app .
docker run --rm -e PORT=8080 -p "127.0.0.1:$FREE:8080" app &
server=$!
tries=0
until wget -q -O - "http://127.0.0.1:$FREE/page" > seen 2> /dev/null || curl -fs "http://127.0.0.1:$FREE/page" > seen; do
    tries=$((tries + 1)); test $tries -lt 200; sleep 0.1
done
grep -q 'version one' seen
kill $server
wait $server || true
docker run --rm app sh /app/tests
docker tag app "$HOST/app/web:v1.0.0"
docker push "$HOST/app/web:v1.0.0" | tee pushed
old=$(sed -n 's/.*digest: \(sha256:[0-9a-f]*\) size: .*/\1/p' pushed)

echo 'version two' > page
docker build --rm --progress plain -t app .
docker tag app "$HOST/app/web:v1.0.1"
docker push "$HOST/app/web:v1.0.1" | tee pushed
new=$(sed -n 's/.*digest: \(sha256:[0-9a-f]*\) size: .*/\1/p' pushed)
test "$old" != "$new"
docker images | grep app/web | awk '{print $1, $3}' > ids
test "$(sort -u ids | wc -l)" = 2

docker tag "$HOST/app/web:v1.0.0" "$HOST/app/web:live"
docker push "$HOST/app/web:live" | grep -q "$old"
docker image rm "$HOST/app/web:v1.0.0" "$HOST/app/web:live"
docker prune -a -f > /dev/null
docker pull "$HOST/app/web@$old"
docker run --rm "$HOST/app/web@$old" cat /app/page | grep -q 'version one'
docker tag "$HOST/app/web@$old" "$HOST/app/web:stable"
docker image push "$HOST/app/web:stable" | grep -q "$old"
docker pull "$HOST/app/web:v1.0.0"
docker image inspect --format '{{index .RepoDigests 0}}' "$HOST/app/web:stable" | grep -q "$old"
docker save "$HOST/app/web:stable" "$HOST/app/web:v1.0.0" -o both.tar
docker rmi "$HOST/app/web:stable"
docker load -i both.tar
cp "$HOME/.docker/config.json" stored
docker logout "$HOST"
"#;

/// Runs the script, as root in a mount namespace in which `registry.test` is this host.
fn run(env: &TestEnv, host: &str, variables: &[(&str, &str)]) -> String {
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nWORKDIR /app\nCOPY page tests ./\nENV PORT=80\nCMD exec httpd -f -p $PORT -h /app\n\
         -- page --\nversion one\n-- tests --\ngrep -q version /app/page\n",
    );
    let (bin, hosts) = (env.dir().join("bin"), env.dir().join("hosts"));
    fs::create_dir(&bin).expect("create");
    std::os::unix::fs::symlink(binary(), bin.join("docker")).expect("link");
    fs::write(&hosts, "127.0.0.1 localhost registry.test\n").expect("write");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let free = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("an address").port();
    let inside = "mount --bind \"$HOSTS\" /etc/hosts && exec sh -c \"$SCRIPT\"";
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-c", inside])
        .current_dir(&context)
        .env_clear()
        .envs(variables.iter().copied())
        .envs([("PATH", path.as_str()), ("HOST", host), ("PASSWORD", PASSWORD), ("SCRIPT", SCRIPT)])
        .env("HOSTS", hosts)
        .env("FREE", free.to_string())
        .env("HOME", env.dir().join("home"))
        .env("KILN_ROOT", env.store())
        .output()
        .expect("run sh");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    assert!(said.contains("Login Succeeded") && !said.contains(PASSWORD) && !said.contains(REFRESH), "{said}");
    assert!(leaks(&env.store(), PASSWORD).is_empty() && leaks(&env.store(), REFRESH).is_empty());
    fs::read_to_string(context.join("stored")).expect("the credential file before the logout")
}

#[test]
fn tutorial_runs_unchanged() {
    // O-61, O-76
    requires!(root, docker_registry, skopeo, curl);
    let (registry, env) = (guarded(), TestEnv::with_busybox());
    let stored = run(&env, &registry.host(), &[]);
    assert!(!stored.contains("identitytoken"), "{stored}");
}

/// A private authority, and a certificate of it for `registry.test`: `ca.pem`, `cert.pem` and `key.pem` in `dir`.
fn authority(dir: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=private authority' -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=registry.test -keyout key.pem -out request
        echo subjectAltName=DNS:registry.test > names
        openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem";
    let made = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("run sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn tutorial_runs_with_certificate_of_private_authority() {
    // O-61, O-76, S-60
    requires!(root, docker_registry, skopeo, curl, openssl);
    let place = TestEnv::new();
    authority(place.dir());
    let file = |name: &str| place.dir().join(name).display().to_string();
    let open = Registry::start();
    fs::write(place.dir().join("htpasswd"), super::access::HTPASSWD).expect("write");
    let registry = open.restart_with(&format!(
        "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: kiln\n    path: {}\n",
        file("cert.pem"),
        file("key.pem"),
        file("htpasswd")
    ));
    let host = registry.host().replace("127.0.0.1", "registry.test");
    run(&TestEnv::with_busybox(), &host, &[("SSL_CERT_FILE", &file("ca.pem"))]);
    let env = TestEnv::with_busybox();
    let own = env.dir().join("home/.config/containers/certs.d").join(&host);
    fs::create_dir_all(&own).expect("create");
    fs::copy(file("ca.pem"), own.join("ca.crt")).expect("copy");
    run(&env, &host, &[]);
}

#[test]
fn tutorial_runs_with_token_server() {
    // O-61, O-76
    requires!(root, docker_registry, skopeo, curl, openssl);
    let tokens = Tokens::start("kiln", PASSWORD);
    let registry = Registry::start_with(&tokens.config());
    let stored = run(&TestEnv::with_busybox(), &registry.host(), &[]);
    // "kiln:": the password is not stored, and not sent after the login.
    assert!(stored.contains("a2lsbjo=") && stored.contains(REFRESH), "{stored}");
    let asked = tokens.asked();
    let login = "GET service=registry.test;account=kiln;offline_token=true;client_id=kiln;";
    assert_eq!(asked[0], login);
    assert!(asked[1..].iter().all(|a| a.starts_with("POST grant_type=refresh_token;")), "{asked:?}");
}

#[test]
fn token_servers_answers_are_told_apart() {
    // O-76, S-58
    requires!(docker_registry, openssl);
    let tokens = Tokens::start("kiln", PASSWORD);
    let registry = Registry::start_with(&tokens.config());
    let (env, host) = (TestEnv::new(), registry.host());
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    let [own, other] = ["app:1", "other/app:1"].map(|name| registry.name(name));
    env.build(&["-t", &own], &context).ok();
    env.kiln(&["push", &own]).fails(1).says(&format!("hint: log in with kiln login {host}, if the name is right"));
    let login =
        |password: &str| env.kiln(&["login", "-u", "kiln", "--password-stdin", &host]).stdin(password.as_bytes());
    login("wrong").fails(1).says(&format!(
        "error: {host}: {} denied access: 401 incorrect username or password\n\
         hint: log in again with kiln login {host}: the credentials are wrong or have expired\n",
        tokens.host()
    ));
    login(PASSWORD).ok().says("a token in place of the password is stored as it is in").never_says(REFRESH);
    // A token that has expired is renewed, once.
    tokens.expire_next();
    let before = tokens.asked().len();
    env.kiln(&["push", &own]).ok().never_says(REFRESH);
    assert_eq!(tokens.asked().len() - before, 2, "{:?}", &tokens.asked()[before..]);
    // The account has no rights there.
    env.kiln(&["tag", &own, &other]).ok();
    env.kiln(&["push", &other])
        .fails(1)
        .says(&format!("hint: ask for access, or log in to {host} as another user"))
        .says("denied access: 401 authentication required");
    // A refresh token that is no longer good; it is shown to nobody.
    let file = env.dir().join("home/.docker/config.json");
    let stored = fs::read_to_string(&file).expect("read");
    fs::write(&file, stored.replace(REFRESH, "refresh-old-canary")).expect("write");
    for args in [&["push", own.as_str()][..], &["build", "--progress", "plain", "--push", "-t", &own, "."]] {
        env.kiln(args)
            .dir(&context)
            .fails(1)
            .says("denied access: 400 invalid_grant")
            .says(&format!("log in again with kiln login {host}"))
            .never_says("refresh-old-canary");
    }
    // A helper keeps the token under the user `<token>`.
    let bin = env.dir().join("bin");
    fs::create_dir_all(&bin).expect("create");
    let kept = env.dir().join("kept");
    let script = format!("#!/bin/sh\ncase $1 in store) cat > {0} ;; get) cat {0} ;; esac\n", kept.display());
    fs::write(bin.join("docker-credential-test"), script).expect("write");
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(bin.join("docker-credential-test"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(&file, r#"{"credsStore":"test"}"#).expect("write");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    login(PASSWORD).env("PATH", &path).ok();
    let told = fs::read_to_string(&kept).expect("read");
    assert!(told.contains(r#""Username":"<token>""#) && told.contains(REFRESH) && !told.contains(PASSWORD), "{told}");
    env.kiln(&["push", &own]).env("PATH", &path).ok();
}
