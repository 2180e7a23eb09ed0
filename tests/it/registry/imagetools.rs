//! Test `kiln imagetools`: images that are joined, copied and shown in registries, read back by skopeo.

use serde_json::Value;

use super::manifest::{json, pushed, skopeo};
use crate::support::image::sha256;
use crate::support::{Registry, TestEnv};

/// The digests and platforms that an index lists.
fn listed(raw: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let list = json(raw)["manifests"].as_array().expect("manifests").clone();
    list.iter().map(|one| (text(&one["digest"]), text(&one["platform"]["architecture"]))).collect()
}

#[test]
fn imagetools_joins_images_that_were_pushed_by_digest() {
    // O-68
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let [one, two, latest] = ["app:1", "app:2", "app:latest"].map(|name| registry.name(name));
    let digests = ["amd64", "arm64"].map(|arch| pushed(arch, &registry.name(&format!("app:{arch}"))));
    let sources = digests.each_ref().map(|digest| format!("{}@{digest}", registry.name("app")));
    let env = TestEnv::new();
    let create = |args: &[&str]| env.kiln(&[&["buildx", "imagetools", "create"], args].concat());
    let posts = registry.requests("POST ");
    let done = create(&["-t", &one, "--tag", &latest, &sources[0], &sources[1]]).ok();
    let raw = skopeo(&["--raw"], &one);
    let digest = format!("sha256:{}", sha256(raw.as_bytes()));
    assert_eq!(done.stdout, format!("1: digest: {digest} size: {0}\nlatest: digest: {digest} size: {0}\n", raw.len()));
    assert_eq!(skopeo(&["--raw"], &latest), raw);
    let want = |arch: &str, digest: &str| (digest.to_owned(), arch.to_owned());
    assert_eq!(listed(&raw), [want("amd64", &digests[0]), want("arm64", &digests[1])]);
    assert_eq!(registry.requests("POST "), posts, "no blob is moved");
    // A list is copied as it is; so is a single image, if asked for.
    create(&["-t", &two, &one]).ok().says(&digest);
    create(&["-t", &two, "--prefer-index=false", &sources[0]]).ok().says(&digests[0]);
    create(&["-t", &two, &sources[0]]).ok();
    assert_eq!(listed(&skopeo(&["--raw"], &two)), [want("amd64", &digests[0])]);
    // More is added; what is for the same platform is replaced.
    let arm = pushed("arm64", &registry.name("other/app:new"));
    let elsewhere = format!("{}@{arm}", registry.name("other/app"));
    create(&["-t", &two, "--append", &sources[1]]).ok();
    create(&["-t", &two, "--append", &elsewhere]).ok();
    assert_eq!(listed(&skopeo(&["--raw"], &two)), [want("amd64", &digests[0]), want("arm64", &arm)]);
    create(&["-t", &two, "-p", "linux/arm64", &one]).ok();
    assert_eq!(listed(&skopeo(&["--raw"], &two)), [want("arm64", &digests[1])]);
    create(&["-t", &two, "--platform", "linux/arm64,linux/s390x", &one])
        .fails(1)
        .says("no source is for linux/s390x; they are for linux/amd64, linux/arm64");
    env.assert_swept();
    assert_eq!(env.kiln(&["images", "-q"]).ok().stdout, "", "nothing has a name in the store");
}

#[test]
fn imagetools_moves_layers_between_repositories_and_registries() {
    // O-61
    requires!(docker_registry, skopeo);
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let source = registry.name("app:amd64");
    pushed("amd64", &source);
    let env = TestEnv::new();
    let [near, far] = [registry.name("team/app:1"), elsewhere.name("app:1")];
    env.kiln(&["imagetools", "create", "-t", &near, &source])
        .ok()
        .says("sent 0 blobs")
        .says("2 taken from other repositories");
    env.kiln(&["imagetools", "create", "--prefer-index=false", "-t", &far, &source]).ok().says("sent 2 blobs");
    for name in [near, far] {
        let other = TestEnv::new();
        other.kiln(&["pull", "--platform", "linux/amd64", &name]).ok();
        assert_eq!(other.image(&name).content("arch"), b"amd64\n");
    }
}

#[test]
fn imagetools_shows_what_it_would_push_and_annotates() {
    requires!(docker_registry);
    let registry = Registry::start();
    let sources = ["app:amd64", "app:arm64"].map(|name| registry.name(name));
    pushed("amd64", &sources[0]);
    pushed("arm64", &sources[1]);
    let env = TestEnv::new();
    let create = |args: &[&str]| env.kiln(&[&["imagetools", "create"], args].concat());
    let puts = registry.requests("PUT ");
    let annotations = ["--annotation", "index:a=b=c", "--annotation", "manifest-descriptor:d=e", "--annotation", "f=g"];
    let shown = create(&[&["--dry-run"], &annotations[..], &[&sources[0], &sources[1]]].concat()).ok().stdout;
    let shown = json(&shown);
    assert_eq!(shown["annotations"], serde_json::json!({"a": "b=c", "f": "g"}));
    assert_eq!(shown["manifests"][1]["annotations"], serde_json::json!({"d": "e"}));
    assert_eq!(registry.requests("PUT "), puts, "nothing is pushed");
    let new = registry.name("app:new");
    for (args, why) in [
        (&["--annotation", "manifest:a=b", "--dry-run", &sources[0]][..], "use the type index or manifest-descriptor"),
        (&["--annotation", "a", "--dry-run", &sources[0]], "want [TYPE:]KEY=VALUE"),
        (&[&sources[0]], "name it with --tag NAME, or pass --dry-run"),
        (&["-t", &new], "no source"),
        (&["--append", &sources[0]], "--tag"),
        (&["-t", "app@sha256:0000000000000000000000000000000000000000000000000000000000000000", &sources[0]], "digest"),
    ] {
        create(args).fails(2).says(why);
    }
    create(&["-t", &new, &registry.name("none:1")]).fails(1).says("none:1: not found");
}

#[test]
fn imagetools_inspect_prints_what_the_registry_has() {
    requires!(docker_registry, skopeo);
    let registry = Registry::start();
    let [amd, arm, list] = ["app:amd64", "app:arm64", "app:1"].map(|name| registry.name(name));
    let digests = [pushed("amd64", &amd), pushed("arm64", &arm)];
    let env = TestEnv::new();
    env.kiln(&["imagetools", "create", "--annotation", "manifest-descriptor:k=v", "-t", &list, &amd, &arm]).ok();
    let raw = skopeo(&["--raw"], &list);
    let digest = format!("sha256:{}", sha256(raw.as_bytes()));
    let inspect = |args: &[&str]| env.kiln(&[&["buildx", "imagetools", "inspect"], args].concat()).ok().stdout;
    assert_eq!(inspect(&["--raw", &list]), raw);
    let kind = "application/vnd.oci.image";
    let block = |arch: &str, digest: &str| {
        format!(
            "  Name:      {list}@{digest}\n  MediaType: {kind}.manifest.v1+json\n  Platform:  linux/{arch}\n  Annotations:\n    k: v\n"
        )
    };
    let blocks = [block("amd64", &digests[0]), block("arm64", &digests[1])].join("\n");
    let want =
        format!("Name:      {list}\nMediaType: {kind}.index.v1+json\nDigest:    {digest}\n\nManifests:\n{blocks}");
    assert_eq!(inspect(&[&list]), want);
    let format = |template: &str, name: &str| inspect(&["--format", template, name]).trim_end().to_owned();
    assert_eq!(format("{{.Manifest.Digest}} {{.Name}}", &list), format!("{digest} {list}"));
    assert_eq!(format("{{range .Manifest.Manifests}}{{.Platform.Architecture}} {{end}}", &list), "amd64 arm64");
    assert_eq!(json(&format("{{json .Manifest}}", &list))["manifests"], json(&raw)["manifests"]);
    assert_eq!(format(r#"{{index (index .Image "linux/arm64").Config.Env 1}}"#, &list), "ARCH=arm64");
    assert_eq!(format("{{.Manifest.Digest}} {{.Image.OS}}", &amd), format!("{} linux", digests[0]));
    // A tag that has moved is seen at once, whatever the store has.
    env.kiln(&["pull", "--platform", "linux/amd64", &amd]).ok();
    let moved = pushed("arm64", &amd);
    assert_eq!(format("{{.Manifest.Digest}}", &amd), moved);
    env.kiln(&["imagetools", "inspect", &registry.name("none:1")]).fails(1).says("not found");
}
