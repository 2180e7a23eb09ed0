//! Test image configs against golden files.
//!
//! Each folder `testdata/config/<case>` is a context. `want` is the image config as skopeo prints it, with the number
//! of layers instead of their digests. `base.Dockerfile` is built first, as `base`; `args` holds further arguments,
//! `ids` the behaviour ids. `BLESS=1` writes `want`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::env::testdata;
use crate::support::golden::cases;
use crate::support::{Golden, TestEnv};

/// Builds a case and returns the config as skopeo reads it.
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
    assert_eq!(config, image.config, "skopeo and the test reader agree");
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
