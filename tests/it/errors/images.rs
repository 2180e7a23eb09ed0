//! Test the messages for unavailable base images.

use super::says;
use crate::support::{Registry, TestEnv};

#[test]
fn unreachable_registry_is_reported() {
    let env = TestEnv::new();
    says(
        &env,
        "-- Dockerfile --\nFROM localhost:1/team/app:1\n",
        &[],
        3,
        "error: image localhost:1/team/app:1 is not in the store; \
         http://localhost:1/v2/team/app/manifests/1: connection refused
 --> CTX/Dockerfile:1:6
  |
1 | FROM localhost:1/team/app:1
  |      ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: check the port, and whether the server runs
",
    );
}

#[test]
fn image_missing_everywhere_is_reported() {
    requires!(docker_registry);
    let env = TestEnv::new();
    let registry = Registry::start();
    let at = registry.host();
    let image = format!("{at}/team/app:1");
    let under = "^".repeat(image.len());
    says(
        &env,
        &format!("-- Dockerfile --\nFROM {image}\n"),
        &[],
        1,
        &format!(
            "error: image {image} not found: neither the store nor {at} has it
 --> CTX/Dockerfile:1:6
  |
1 | FROM {image}
  |      {under}
  |
  = help: list images with `kiln images`, or create one from a directory or tar with `kiln import`
"
        ),
    );
}

#[test]
fn image_missing_with_pull_never_suggests_similar_name() {
    let env = TestEnv::with_busybox();
    says(
        &env,
        "-- Dockerfile --\nARG TAG=1\nFROM busybox:${TAG}\n",
        &["--pull=never"],
        1,
        "error: image busybox:1 is not in the store
hint: did you mean busybox:latest? `kiln images` lists the store
",
    );
    says(
        &env,
        "-- Dockerfile --\nFROM busybox AS b\nFROM busybx\n",
        &["--pull=never"],
        1,
        "error: image busybx:latest is not in the store
 --> CTX/Dockerfile:2:6
  |
2 | FROM busybx
  |      ^^^^^^
  |
  = help: did you mean busybox:latest? `kiln images` lists the store
",
    );
}

#[test]
fn mistyped_stage_name_suggests_the_stage() {
    // C-18
    says(
        &TestEnv::new(),
        "-- Dockerfile --\nFROM scratch AS build\nFROM scratch\nCOPY --from=biuld /a /b\n",
        &["--pull=never"],
        1,
        "error: image biuld:latest is not in the store
 --> CTX/Dockerfile:3:13
  |
3 | COPY --from=biuld /a /b
  |             ^^^^^
  |
  = help: did you mean the stage `build`?
",
    );
}

#[test]
fn mount_from_rejects_stage_number() {
    // M-4
    let env = TestEnv::new();
    let lines = "FROM scratch\nCOPY f /\nFROM scratch\nRUN --mount=from=0,target=/m true\n";
    let context = env.context(&format!("-- Dockerfile --\n{lines}-- f --\n"));
    let done = env.build(&["--pull=never"], &context).fails(1);
    done.says("Dockerfile:4:18").says("only COPY --from accepts a number");
}
