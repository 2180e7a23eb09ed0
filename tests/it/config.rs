//! Folders `testdata/config/<case>`: a context that is built, and in `want` the image's config as skopeo prints it, with
//! the number of layers in place of their digests. `base.Dockerfile` is built as `base` before, `args` are more
//! arguments, `ids` the behaviour ids. `BLESS=1` writes `want`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::TestEnv;
use crate::support::env::testdata;

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
fn configs_and_histories_are_what_buildkit_writes() {
    requires!(userns, overlay, skopeo);
    let bless = std::env::var_os("BLESS").is_some();
    let mut failed = Vec::new();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(testdata("config")).expect("list").map(|e| e.expect("entry").path()).collect();
    cases.sort();
    for case in cases {
        let got = format!("{:#}\n", build(&case));
        let want = fs::read_to_string(case.join("want")).unwrap_or_default();
        if bless {
            fs::write(case.join("want"), &got).expect("write");
        } else if got != want {
            failed.push(format!("{}\n--- want\n{want}--- got\n{got}", case.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
