//! Test `kiln load` with archives of `kiln save` and other tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::env::fixture;
use crate::support::image::sha256;
use crate::support::{Image, TestEnv};

fn sh(dir: &Path, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("run sh");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A store with one image that has two names.
fn named() -> TestEnv {
    let env = TestEnv::new();
    let tar = fixture("busybox").join("rootfs.tar");
    env.kiln(&["import", "-c", "ENV A=b", tar.to_str().expect("UTF-8"), "app:1"]).ok();
    env.kiln(&["tag", "app:1", "registry.example:5000/team/app:2"]).ok();
    env
}

#[test]
fn load_restores_digest_and_names_of_saved_image() {
    let from = named();
    let image = from.image("app:1");
    for format in ["oci", "docker"] {
        let id = &image.digest[7..19];
        from.kiln(&["save", "--format", format, "-o", "image.tar", id]).ok();
        let archive = fs::read(from.dir().join("image.tar")).expect("an archive");
        let to = TestEnv::new();
        to.kiln(&["load"]).stdin(&archive).ok().says("loaded app:1").says("loaded registry.example:5000/team/app:2");
        assert_eq!(to.image("app:1").digest, image.digest, "{format}");
        assert_eq!(to.image("registry.example:5000/team/app:2").tree(), image.tree());
        to.assert_swept();
    }
}

#[test]
fn load_reads_archives_and_layouts_of_other_tools() {
    requires!(skopeo);
    let layout = fixture("busybox").join("layout");
    let theirs = Image::open(&layout, "latest:latest");
    let env = TestEnv::new();
    for to in ["docker-archive:d.tar:busybox:1", "oci-archive:o.tar:busybox:2"] {
        sh(env.dir(), &format!("skopeo copy -q --insecure-policy oci:{}:latest {to}", layout.display()));
    }
    // Docker archives have uncompressed layers, and therefore another manifest.
    env.kiln(&["load", "-i", "d.tar"]).ok().says("loaded busybox:1");
    assert_eq!(env.image("busybox:1").diff_ids(), theirs.diff_ids());
    env.kiln(&["load", "--input", "o.tar"]).ok().says("loaded busybox:2");
    assert_eq!(env.image("busybox:2").digest, theirs.digest);
    // A bare tag is not a name: the image is loaded without one.
    env.kiln(&["load", "-i", layout.to_str().expect("UTF-8")]).ok().says("loaded ");
    sh(env.dir(), "gzip d.tar");
    env.kiln(&["rmi", "busybox:1"]).ok();
    env.kiln(&["load", "-i", "d.tar.gz"]).ok().says("loaded busybox:1");
    let built = env.context("-- Dockerfile --\nFROM busybox:1\nCOPY Dockerfile /\n");
    env.build(&["-t", "on"], &built).ok();
}

#[test]
fn load_reads_every_compression_from_file_and_pipe() {
    requires!(skopeo, zstd, xz);
    let layout = fixture("busybox").join("layout");
    let env = TestEnv::new();
    for (format, name) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar")] {
        let to = format!("{format}:{name}:registry.example/busybox:1");
        sh(env.dir(), &format!("skopeo copy -q --insecure-policy oci:{}:latest {to}", layout.display()));
        sh(env.dir(), &format!("gzip -k {name} && zstd -q {name} && xz -k {name} && bzip2 -k {name}"));
        for end in ["", ".gz", ".zst", ".xz", ".bz2"] {
            let file = format!("{name}{end}");
            env.kiln(&["load", "-i", &file]).ok().says("loaded registry.example/busybox:1");
            env.kiln(&["rmi", "registry.example/busybox:1"]).ok();
            let bytes = fs::read(env.dir().join(&file)).expect("read");
            env.kiln(&["load"]).stdin(&bytes).ok().says("loaded registry.example/busybox:1");
            env.kiln(&["rmi", "registry.example/busybox:1"]).ok();
        }
    }
    env.assert_swept();
}

#[test]
fn load_reads_directories_of_skopeo_and_podman() {
    requires!(skopeo);
    let (layout, env) = (fixture("busybox").join("layout"), TestEnv::new());
    let copy = |args: &str| sh(env.dir(), &format!("skopeo copy -q --insecure-policy {args}"));
    copy(&format!("oci:{}:latest dir:plain", layout.display()));
    copy(&format!("--format v2s2 oci:{}:latest dir:docker", layout.display()));
    let theirs = Image::open(&layout, "latest:latest");
    env.kiln(&["load", "-i", "plain"]).ok().says(&format!("loaded {}", theirs.digest));
    let told = env.kiln(&["load", "-i", "docker"]).ok();
    let digest = told.split_whitespace().last().expect("a digest").to_owned();
    env.kiln(&["tag", &digest, "docker:1"]).ok();
    assert_eq!(env.image("docker:1").diff_ids(), theirs.diff_ids());
    // An index with the images of several platforms.
    let maker = TestEnv::new();
    for arch in ["arm64", "s390x"] {
        let root = maker.context(&format!("-- arch --\n{arch}\n"));
        let platform = format!("linux/{arch}");
        maker.kiln(&["import", "--platform", &platform, root.to_str().expect("UTF-8"), arch]).ok();
    }
    maker.kiln(&["manifest", "create", "all", "arm64", "s390x"]).ok();
    maker.kiln(&["save", "-o", env.dir().join("all.tar").to_str().expect("UTF-8"), "all"]).ok();
    copy("--all oci-archive:all.tar dir:all");
    env.kiln(&["load", "--platform", "linux/s390x", "-i", "all"]).ok().says(&maker.image("s390x").digest);
    env.kiln(&["load", "--platform", "linux/386", "-i", "all"]).fails(1).says("it has linux/arm64, linux/s390x");
    let digest = maker.kiln(&["inspect", "--platform", "linux/arm64", "--format", "{{.Digest}}", "all"]).ok();
    env.kiln(&["load", "-i", "all"]).ok().says(&format!("loaded {}\n", digest.trim()));
    sh(env.dir(), "rm docker/manifest.json");
    env.kiln(&["load", "-i", "docker"]).fails(1).says("manifest.json");
}

#[test]
fn load_reads_what_docker_saves() {
    // Docker 25 and later save a layout with uncompressed layers, and what earlier ones read; the containerd store lists
    // platforms that it does not save.
    requires!(skopeo);
    let (layout, env) = (fixture("busybox").join("layout"), TestEnv::new());
    sh(
        env.dir(),
        &format!("skopeo copy -q --insecure-policy oci:{}:latest docker-archive:d.tar:busybox:1", layout.display()),
    );
    sh(env.dir(), "mkdir old && tar -xf d.tar -C old");
    let document =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(env.dir().join(path)).expect("read")).expect("JSON") };
    let line = document("old/manifest.json")[0].clone();
    let blobs = env.dir().join("new/blobs/sha256");
    fs::create_dir_all(&blobs).expect("create");
    let put = |bytes: &[u8], kind: &str| -> Value {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest), bytes).expect("write");
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let read = |path: &Value| fs::read(env.dir().join("old").join(path.as_str().expect("a path"))).expect("read");
    let config = put(&read(&line["Config"]), "config.v1+json");
    let layers: Vec<Value> =
        line["Layers"].as_array().expect("layers").iter().map(|path| put(&read(path), "layer.v1.tar")).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
    });
    let manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
    let path = |blob: &Value| blob["digest"].as_str().expect("a digest").replace(':', "/");
    let docker = json!([{
        "Config": format!("blobs/{}", path(&config)),
        "RepoTags": ["app:1", "registry.example/team/app:2"],
        "Layers": layers.iter().map(|layer| format!("blobs/{}", path(layer))).collect::<Vec<_>>(),
        "LayerSources": {},
    }]);
    let write =
        |name: &str, value: &Value| fs::write(env.dir().join("new").join(name), value.to_string()).expect("write");
    write("manifest.json", &docker);
    write("repositories", &json!({"app": {"1": "0000"}}));
    write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
    let entry = |of: &Value, name: &str, tag: &str| {
        let mut entry = of.clone();
        entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        entry
    };
    let names = [("docker.io/library/app:1", "1"), ("registry.example/team/app:2", "2")];
    let entries: Vec<Value> = names.iter().map(|(name, tag)| entry(&manifest, name, tag)).collect();
    write("index.json", &json!({"schemaVersion": 2, "manifests": entries}));
    sh(env.dir(), "tar -C new -cf classic.tar .");
    let done = env.kiln(&["load", "-i", "classic.tar"]).ok();
    assert_eq!(done.stdout, "loaded app:1\nloaded registry.example/team/app:2\n");
    // The containerd store: an index of which one platform and its attestation are not here.
    let mut own = manifest.clone();
    own["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let missing = |architecture: &str, os: &str| {
        let digest = format!("sha256:{}", sha256(os.as_bytes()));
        json!({"mediaType": manifest["mediaType"], "digest": digest, "size": 7, "platform": {"architecture": architecture, "os": os}})
    };
    let list = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [missing("arm64", "linux"), own, missing("unknown", "unknown")],
    });
    let list = put(list.to_string().as_bytes(), "index.v1+json");
    write("index.json", &json!({"schemaVersion": 2, "manifests": [entry(&list, "docker.io/library/app:3", "3")]}));
    sh(env.dir(), "tar -C new -cf containerd.tar .");
    env.kiln(&["load", "--platform", "linux/amd64", "-i", "containerd.tar"]).ok().says("loaded app:3");
    let done = env.kiln(&["load", "-i", "containerd.tar"]).ok();
    done.says("note: containerd.tar lacks the images for linux/arm64; one platform is loaded\n").says("loaded app:3");
    assert_eq!(env.image("app:3").digest, manifest["digest"]);
    // BuildKit writes `null` for an image without layers.
    let empty =
        put(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#, "config.v1+json");
    let bare = json!({"schemaVersion": 2, "config": empty, "layers": null});
    let bare = put(bare.to_string().as_bytes(), "manifest.v1+json");
    write("index.json", &json!({"schemaVersion": 2, "manifests": [entry(&bare, "docker.io/library/bare:1", "1")]}));
    sh(env.dir(), "rm new/manifest.json && tar -C new -cf bare.tar .");
    env.kiln(&["load", "-i", "bare.tar"]).ok().says("loaded bare:1");
    let bare = json!([{"Config": format!("blobs/{}", path(&empty)), "RepoTags": ["bare:2"], "Layers": null}]);
    write("manifest.json", &bare);
    sh(env.dir(), "rm new/oci-layout && tar -C new -cf bare.tar .");
    env.kiln(&["load", "-i", "bare.tar"]).ok().says("loaded bare:2");
    let context = env.context("-- Dockerfile --\nFROM bare:2\nCOPY Dockerfile /\n");
    env.build(&["-t", "on"], &context).ok();
    assert_eq!(env.image("on").layers.len(), 1);
}

#[test]
fn load_refuses_damaged_archives_and_leaves_nothing() {
    requires!(skopeo);
    let from = named();
    let env = TestEnv::new();
    env.kiln(&["images"]).ok();
    from.kiln(&["save", "--format", "docker", "-o", env.dir().join("good.tar").to_str().expect("UTF-8"), "app:1"]).ok();
    let layer = from.image("app:1").manifest["layers"][0]["digest"].as_str().expect("a digest")[7..].to_owned();
    sh(env.dir(), "mkdir x && tar -xf good.tar -C x && head -c 70000 good.tar > cut.tar");
    sh(env.dir(), &format!("chmod -R u+w x && printf X | dd of=x/blobs/sha256/{layer} bs=1 seek=99 conv=notrunc 2>&1"));
    sh(env.dir(), "tar -C x -cf flipped.tar . && rm x/oci-layout && tar -C x -cf old.tar .");
    sh(
        env.dir(),
        "echo '[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]' > x/manifest.json && tar -C x -cf climb.tar .",
    );
    sh(env.dir(), "rm x/manifest.json && tar -C x -cf neither.tar . && echo hello > noise");
    for (file, why) in [
        ("cut.tar", "load cut.tar"),
        ("flipped.tar", "digest mismatch"),
        ("climb.tar", "../../etc/passwd"),
        ("neither.tar", "is not an image archive"),
        ("noise", "load noise"),
        ("missing", "missing"),
    ] {
        env.kiln(&["load", "-i", file]).fails(1).says(why);
        let told: Value = serde_json::from_str(&env.kiln(&["images", "--format", "json"]).ok()).expect("JSON");
        assert_eq!(told, json!([]), "{file}");
        env.assert_swept();
    }
    // What Docker saved before 1.10, with names and without.
    let first = "an archive in the format that Docker saved before version 1.10";
    let make = "mkdir -p first/0123 && cd first && echo 1.0 >0123/VERSION && echo {} >0123/json && tar -cf 0123/layer.tar 0123/json";
    sh(env.dir(), &format!("({make}) && tar -C first -cf nameless.tar . && echo {{}} >first/repositories"));
    sh(env.dir(), "tar -C first -cf first.tar .");
    for file in ["first.tar", "nameless.tar", "first"] {
        let refused = env.kiln(&["load", "-i", file]).fails(1);
        refused.says(&format!("error: {file} is {first}")).says("hint: load it with the Docker that saved it");
    }
    // The two commands are easily confused.
    env.kiln(&["import", "good.tar", "x"]).fails(1).says("archive of images").says("kiln load -i");
    let rootfs = fixture("busybox").join("rootfs.tar");
    env.kiln(&["load", "-i", rootfs.to_str().expect("UTF-8")]).fails(1).says("kiln import");
}
