//! Test every option of `RUN --mount` in real builds, as root and as a plain user. Each test fails if the option is
//! ignored. The syntax of options is tested in `testdata`.

mod authorities;
mod bind;
mod cache;
mod order;
mod secret;
mod shared;
mod ssh;
mod swapped;
mod tmpfs;

use std::path::PathBuf;

use crate::support::TestEnv;
use crate::support::env::Done;

/// A context with a Dockerfile of `lines` on busybox, and `files` in the notation of [`TestEnv::context`].
fn context(env: &TestEnv, lines: &str, files: &str) -> PathBuf {
    env.context(&format!("-- Dockerfile --\nFROM busybox\n{lines}\n{files}"))
}

/// Builds `lines` on busybox as `app`.
fn built(env: &TestEnv, args: &[&str], lines: &str) -> Done {
    let all: Vec<&str> = ["--progress", "plain", "-t", "app"].into_iter().chain(args.iter().copied()).collect();
    env.build(&all, &context(env, lines, "")).ok()
}

/// Builds `lines` on busybox, which must fail with `code`.
fn refused(env: &TestEnv, code: i32, lines: &str) -> Done {
    env.build(&["--progress", "plain"], &context(env, lines, "")).fails(code)
}

/// The names in the last layer of `app`.
fn last_layer(env: &TestEnv) -> Vec<String> {
    let image = env.image("app");
    let names = image.layer_tree(image.layers.len() - 1);
    names.names().into_iter().filter(|name| *name != ".").map(str::to_owned).collect()
}
