//! Test `kiln manifest`: lists of images that several machines built and pushed; skopeo reads what was pushed.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::env::fixture;
use crate::support::image::sha256;
use crate::support::{Registry, TestEnv};

/// What skopeo reads.
pub(super) fn skopeo(args: &[&str], name: &str) -> String {
    let out = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false"])
        .args(args)
        .arg(format!("docker://{name}"))
        .output()
        .expect("run skopeo");
    assert!(out.status.success(), "skopeo inspect: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Makes an image for `arch` in a store of its own and pushes it as `name`, as a machine of that kind does. Returns its
/// digest.
pub(super) fn pushed(arch: &str, name: &str) -> String {
    let machine = TestEnv::new();
    import(&machine, arch, name);
    machine.kiln(&["push", name]).ok();
    machine.image(name).digest
}

/// An image whose only layer is its own.
fn import(env: &TestEnv, arch: &str, name: &str) {
    let root = env.context(&format!("-- arch --\n{arch}\n"));
    let (platform, mark) = (format!("linux/{arch}"), format!("ENV ARCH={arch}"));
    env.kiln(&["import", "--platform", &platform, "-c", &mark, root.to_str().expect("UTF-8"), name]).ok();
}

#[test]
fn images_of_several_machines_become_one_list() {
    // O-68
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let [list, amd, arm] = ["app:1", "app:1-amd64", "app:1-arm"].map(|name| registry.name(name));
    let digests = [pushed("amd64", &amd), pushed("arm/v7", &arm)];
    let env = TestEnv::new();
    env.kiln(&["manifest", "create", &list, &amd, &arm])
        .ok()
        .says(&format!("Created manifest list {list}"))
        .says(&format!("adding {} for linux/amd64 from its registry", digests[0]))
        .says(&format!("adding {} for linux/arm/v7 from its registry", digests[1]));
    env.kiln(&["images"]).ok().says("app").never_says("warning");
    let (puts, posts) = (registry.requests("PUT "), registry.requests("POST "));
    let push = env.kiln(&["manifest", "push", "--purge", &list]).ok();
    // Two manifests and the list; no blob is moved.
    assert_eq!((registry.requests("PUT ") - puts, registry.requests("POST ") - posts), (3, 0));
    let raw = skopeo(&["--raw"], &list);
    assert_eq!(push.stdout, format!("sha256:{}\n", sha256(raw.as_bytes())));
    let index = json(&raw);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    for (one, digest) in index["manifests"].as_array().expect("manifests").iter().zip(&digests) {
        assert_eq!((&one["digest"], one.get("annotations")), (&digest.as_str().into(), None));
    }
    assert_eq!(
        index["manifests"][1]["platform"],
        serde_json::json!({"architecture": "arm", "os": "linux", "variant": "v7"})
    );
    let seen = json(&skopeo(&["--override-arch", "arm", "--override-variant", "v7"], &list));
    assert!(seen["Env"].to_string().contains("ARCH=arm/v7"), "{seen}");
    // The list is gone here, and there for others.
    assert!(!env.kiln(&["images"]).ok().stdout.contains("app"));
    let other = TestEnv::new();
    other.kiln(&["pull", "--platform", "linux/arm/v7", &list]).ok().says(&digests[1]);
    assert_eq!(other.image(&list).content("arch"), b"arm/v7\n");
    env.assert_swept();
}

#[test]
fn list_takes_layers_from_where_its_images_are() {
    // O-61, O-68
    requires!(docker_registry, skopeo);
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let [amd, arm] = ["on/amd64:1", "on/arm64:1"].map(|name| registry.name(name));
    pushed("amd64", &amd);
    pushed("arm64", &arm);
    let env = TestEnv::new();
    let list = registry.name("team/app:1");
    env.kiln(&["manifest", "create", &list, &amd, &arm]).ok();
    let puts = registry.requests("PUT ");
    env.kiln(&["manifest", "push", &list]).ok().says("sent 0 blobs").says("4 taken from other repositories");
    assert_eq!(registry.requests("PUT ") - puts, 3);
    // What another registry lacks is fetched and sent, also by `push` and under another name.
    let there = [elsewhere.name("app:1"), elsewhere.name("app:2")];
    env.kiln(&["manifest", "push", "--all", &list, &format!("docker://{}", there[0])]).ok().says("sent 4 blobs");
    env.kiln(&["tag", &list, &there[1]]).ok();
    env.kiln(&["push", &there[1]]).ok().says("sent 0 blobs");
    assert_eq!(skopeo(&["--raw"], &there[0]), skopeo(&["--raw"], &list));
    assert_eq!(skopeo(&["--raw"], &there[1]), skopeo(&["--raw"], &list));
    let other = TestEnv::new();
    other.kiln(&["pull", "--platform", "linux/arm64", &there[0]]).ok();
    assert_eq!(other.image(&there[0]).content("arch"), b"arm64\n");
    // The store's own images are sent from the store.
    let local = TestEnv::new();
    import(&local, "riscv64", "mine");
    local.kiln(&["manifest", "create", &elsewhere.name("new:1"), "mine", &there[0]]).ok().says("from the store");
    local.kiln(&["manifest", "push", &elsewhere.name("new:1")]).ok().says("sent 2 blobs");
    let seen = json(&skopeo(&["--raw"], &elsewhere.name("new:1")));
    assert_eq!(seen["manifests"].as_array().map(Vec::len), Some(3));
    // A build on the list takes this machine's image and leaves the name with all of them.
    let context = local.context(&format!("-- Dockerfile --\nFROM {list}\nCOPY Dockerfile /\n"));
    local.kiln(&["manifest", "create", &list, &amd, &arm]).ok();
    local.build(&["-t", "built"], &context).ok();
    assert_eq!(local.image("built").content("arch"), b"amd64\n");
    assert!(local.kiln(&["manifest", "inspect", &list]).ok().stdout.contains("arm64"));
}

#[test]
fn list_is_amended_annotated_and_removed() {
    // O-68
    let env = TestEnv::new();
    for (arch, name) in [("amd64", "app:amd64"), ("arm64", "app:arm64"), ("arm64", "app:new")] {
        import(&env, arch, name);
    }
    let manifest = |args: &[&str]| env.kiln(&[&["manifest"], args].concat());
    let digest = |name: &str| env.image(name).digest;
    // The spelling of Docker's own example.
    manifest(&["create", "app:all", "--amend", "app:amd64", "--amend", "app:arm64"]).ok();
    let members = || -> Vec<Value> {
        let list = json(&manifest(&["inspect", "app:all"]).ok().stdout);
        list["manifests"].as_array().expect("manifests").clone()
    };
    let listed = || -> Vec<String> {
        members().iter().map(|one| one["digest"].as_str().expect("a digest").to_owned()).collect()
    };
    assert_eq!(listed(), [digest("app:amd64"), digest("app:arm64")]);
    manifest(&["create", "app:all", "app:new"]).fails(1).says("app:all exists in the store").says("--amend");
    manifest(&["create", "app:new", "app:amd64"]).fails(1).says("exists in the store").says("kiln rmi");
    manifest(&["create", "--amend", "app:new", "app:amd64"]).fails(1).says("app:new is one image, not a manifest list");
    // An image replaces the one for its platform.
    if digest("app:new") == digest("app:arm64") {
        env.kiln(&[
            "import",
            "--platform",
            "linux/arm64",
            env.context("-- x --\n").to_str().expect("UTF-8"),
            "app:new",
        ])
        .ok();
    }
    manifest(&["add", "app:all", "app:new"]).ok().says("replacing sha256:");
    assert_eq!(listed(), [digest("app:amd64"), digest("app:new")]);
    assert!(!env.kiln(&["images", "--filter", "dangling=true"]).ok().stdout.contains("<none>"), "old lists are gone");
    // By name and by digest.
    manifest(&["annotate", "--os", "freebsd", "--arch", "arm", "--variant", "v6", "app:all", "app:amd64"]).ok();
    let id = &digest("app:new")[7..19];
    manifest(&["annotate", "--os-version", "10.0", "--os-features", "a,b", "--annotation", "k=v", "app:all", id]).ok();
    let [first, second] = &members()[..] else { panic!("two images") };
    assert_eq!(first["platform"], serde_json::json!({"architecture": "arm", "os": "freebsd", "variant": "v6"}));
    assert_eq!(
        second["platform"],
        serde_json::json!({"architecture": "arm64", "os": "linux", "os.version": "10.0", "os.features": ["a", "b"]})
    );
    assert_eq!(second["annotations"], serde_json::json!({"k": "v"}));
    manifest(&["annotate", "--arch", "arm", "app:all", "busybox"]).fails(1).says("has no image busybox").says(id);
    manifest(&["annotate", "--annotation", "k", "app:all", id]).fails(2).says("want KEY=VALUE");
    let verbose = json(&manifest(&["inspect", "-v", "app:all"]).ok().stdout);
    assert_eq!(verbose[1]["Descriptor"], *second);
    assert_eq!(verbose[1]["OCIManifest"]["schemaVersion"], 2);
    assert!(verbose[1]["Ref"].as_str().expect("a name").starts_with("docker.io/library/app:new@sha256:"));
    assert_eq!(json(&manifest(&["inspect", "app:all", id]).ok().stdout), verbose[1]["OCIManifest"]);
    manifest(&["remove", "app:all", "app:amd64"]).ok();
    assert_eq!(listed(), [digest("app:new")]);
    manifest(&["rm", "app:all"]).ok().says("Deleted manifest list app:all");
    manifest(&["rm", "app:new"]).fails(1).says("is one image");
    manifest(&["push", "app:new"]).fails(1).says("is one image");
    manifest(&["create", "app:empty"]).ok();
    manifest(&["push", "app:empty"]).fails(1).says("app:empty has no images");
    manifest(&["create", "app:two", "app:arm64", "app:new"]).ok().says("warning: ").says("are both for linux/arm64");
    let pinned = format!("app@{}", digest("app:new"));
    manifest(&["create", &pinned, "app:new"]).fails(2).says("a new name has a tag");
}

#[test]
fn registry_is_asked_for_what_the_store_lacks() {
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let env = TestEnv::new();
    let shown = env.kiln(&["manifest", "inspect", &name]).ok().stdout;
    assert_eq!(json(&shown), json(&skopeo(&["--raw"], &name)));
    env.kiln(&["manifest", "create", "app", &registry.name("nothing:1")]).fails(1).says("not found");
    env.kiln(&["manifest", "inspect", "app"]).fails(3);
    // The store comes first, docker:// means the registry.
    env.kiln(&["pull", &name]).ok();
    let list = registry.name("list:1");
    env.kiln(&["manifest", "create", &list, &name]).ok().says("from the store");
    let forced = format!("docker://{name}");
    env.kiln(&["manifest", "create", "--amend", &list, &forced]).ok().says("from its registry");
    let file = env.dir().join("digest");
    let pushed = env.kiln(&["manifest", "push", "--digestfile", file.to_str().expect("UTF-8"), &list]).ok().stdout;
    assert_eq!(fs::read_to_string(&file).expect("read"), pushed.trim_end());
    env.kiln(&["manifest", "push", "--rm", &list]).ok().says("sent 0 blobs");
    assert!(!env.kiln(&["images"]).ok().stdout.contains("list"));
    assert_eq!(json(&skopeo(&["--raw"], &list))["manifests"].as_array().map(Vec::len), Some(1));
}
