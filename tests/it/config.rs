//! Folders `testdata/config/<case>`: a context that is built, and in `want` the image's config as skopeo prints it, with
//! the number of layers in place of their digests. `base.Dockerfile` is built as `base` before, `args` are more
//! arguments, `ids` the behaviour ids. `BLESS=1` writes `want`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::env::testdata;
use crate::support::golden::cases;
use crate::support::{Golden, TestEnv};

/// Builds a case. The config, checked against manifest and layers, and read by skopeo.
fn build(case: &Path) -> Value {
    let read = |name: &str| fs::read_to_string(case.join(name)).unwrap_or_default();
    let env = if read("Dockerfile").contains("busybox") { TestEnv::with_busybox() } else { TestEnv::new() };
    if !read("base.Dockerfile").is_empty() {
        env.build(&["-t", "base", "-f", case.join("base.Dockerfile").to_str().expect("UTF-8")], case).ok();
    }
    let more = read("args");
    let args: Vec<&str> = ["-t", "x"].into_iter().chain(more.lines()).collect();
    env.build(&args, case).ok();
    let image = env.image("x");
    let config = image.skopeo_config();
    assert_eq!(config, image.config, "skopeo reads what is there");
    let mut shown = config;
    shown["rootfs"] = json!(format!("{} layers", image.layers.len()));
    shown
}

#[test]
fn config_and_history_match_buildkit() {
    requires!(userns, overlay, skopeo);
    let mut golden = Golden::new();
    for case in cases(&testdata("config")) {
        golden.compare(&case.join("want"), &format!("{:#}\n", build(&case)));
    }
    golden.finish();
}
