//! Test the commands of a tutorial with `docker` being kiln: log in, build, test, tag, push, roll back.

use std::process::Command;

use super::access::PASSWORD;
use super::push::guarded;
use crate::support::TestEnv;
use crate::support::env::binary;

/// Prints nothing but what its last lines compare.
const SCRIPT: &str = r#"
set -eu
echo "$PASSWORD" | docker login -u kiln --password-stdin "$HOST"
docker build --rm -t app .
docker run --rm -e PORT=8080 app | grep -q 'version one on port 8080'
docker run --rm app sh -c 'test -f /app/page'
docker tag app "$HOST/app/web:v1.0.0"
docker push "$HOST/app/web:v1.0.0" | tee pushed
old=$(sed -n 's/.*digest: \(sha256:[0-9a-f]*\) size: .*/\1/p' pushed)

echo 'version two' > page
docker build --rm -t app .
docker tag app "$HOST/app/web:v1.0.1"
docker push "$HOST/app/web:v1.0.1"
docker images | grep app/web | awk '{print $1, $3}' > ids
test "$(sort -u ids | wc -l)" = 2

docker tag "$HOST/app/web:v1.0.0" "$HOST/app/web:live"
docker push "$HOST/app/web:live" | grep -q "$old"
docker image rm "$HOST/app/web:v1.0.0" "$HOST/app/web:live"
docker pull "$HOST/app/web@$old"
docker run --rm "$HOST/app/web@$old" | grep -q 'version one'
docker tag "$HOST/app/web@$old" "$HOST/app/web:stable"
docker image push "$HOST/app/web:stable" | grep -q "$old"
docker image inspect --format '{{index .RepoDigests 0}}' "$HOST/app/web:stable" | grep -q "$old"
docker save "$HOST/app/web:stable" app -o both.tar
docker rmi app
docker load -i both.tar
docker logout "$HOST"
"#;

#[test]
fn tutorial_runs_unchanged() {
    // O-61, O-76
    requires!(root, docker_registry, skopeo);
    let (registry, env) = (guarded(), TestEnv::with_busybox());
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nWORKDIR /app\nCOPY page .\nENV PORT=80\nCMD echo \"$(cat page) on port $PORT\"\n\
         -- page --\nversion one\n",
    );
    let bin = env.dir().join("bin");
    std::fs::create_dir(&bin).expect("create");
    std::os::unix::fs::symlink(binary(), bin.join("docker")).expect("link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let out = Command::new("sh")
        .args(["-c", SCRIPT])
        .current_dir(&context)
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOST", &registry.host()), ("PASSWORD", PASSWORD)])
        .env("HOME", env.dir().join("home"))
        .env("KILN_ROOT", env.store())
        .output()
        .expect("run sh");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    assert!(said.contains("Login Succeeded") && !said.contains(PASSWORD), "{said}");
}
