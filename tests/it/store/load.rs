//! Test `kiln load` with archives of `kiln save` and other tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::env::fixture;
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
        assert_eq!(told, serde_json::json!([]), "{file}");
        env.assert_swept();
    }
    // The two commands are easily confused.
    env.kiln(&["import", "good.tar", "x"]).fails(1).says("archive of images").says("kiln load -i");
    let rootfs = fixture("busybox").join("rootfs.tar");
    env.kiln(&["load", "-i", rootfs.to_str().expect("UTF-8")]).fails(1).says("kiln import");
}
