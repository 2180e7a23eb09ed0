//! Helpers of the integration tests. An example:
//!
//! ```ignore
//! use crate::support::{TestEnv, Tree};
//!
//! #[test]
//! fn copy_keeps_file_mode() {
//!     requires!(userns, overlay);                     // skipped if the host lacks one; a failure if `MUST` demands it
//!     let env = TestEnv::with_busybox();              // own store with `busybox:latest`, own HOME, no environment
//!     let context = env.context("
//! -- Dockerfile --
//! FROM busybox
//! COPY run.sh /
//! -- run.sh 0755 --
//! echo hello
//! -- empty/ --
//! -- link -> run.sh --
//! ");
//!     let done = env.build(&["-t", "app"], &context).ok();     // or `.fails(1)`; the failure message shows everything
//!     done.says("run.sh");
//!     let image = env.image("app");                            // read from the store without the code of kiln
//!     assert_eq!(image.config["config"]["Cmd"], serde_json::json!(["sh"]));
//!     let file = &image.tree()["run.sh"];
//!     assert_eq!((file.mode, file.uid), (0o755, 0));
//! }
//! ```
//!
//! - [`TestEnv`] (`env`): a store, a home and a context directory per test; `kiln(&[…])` runs the binary with a cleared
//!   environment, `.env("K", "V")` and `.stdin(…)` add to it, `.ok()`/`.fails(code)` run it and check the exit code.
//! - [`Progress`] (`progress`): which steps of a build ran and why, and which were cached.
//! - [`Tree`] (`tree`): a comparable listing: of an image (`image.tree()`, `image.layer_tree(i)`), of a directory
//!   (`Tree::of_dir`), of a tar (`Tree::of_tar`). `without_times()` for comparisons across builds.
//! - [`Image`] (`image`): manifest, config, layers of an image in a store or any OCI layout; `umoci_tree()` unpacks it
//!   with umoci (correct owners only as root), a reader that shares no code with kiln.
//! - [`layout`]: images that kiln would not build, written layer by layer.
//! - [`random`]: inputs from a seed; `scripts/soak` tries more of them.
//! - [`Registry`] (`registry`): Debian's `docker-registry` on a random loopback port, killed when dropped.
//! - [`Tokens`] (`tokens`): a token server for it. [`Server`] (`server`): an HTTP server that answers what a closure says.
//! - [`Fault`] (`fault`): what a server answers instead of what it should, while a test says so. [`Relay`] (`relay`): a registry
//!   behind a server that counts what it is asked.
//! - [`Dir`](dir::Dir) (`dir`): a directory that the next run removes if this one is killed.
//! - [`S3`](s3::S3) (`s3`): a bucket of an S3 store that checks signatures.
//! - [`Actions`](actions::Actions) (`actions`): a cache service of GitHub Actions.
//! - [`processes`]: finds processes by an argument, and waits for their end.
//! - `requires!` (`requires`): abilities of the host.
//! - [`Golden`] (`golden`): golden files, which `BLESS=1` writes.
//! - [`canary`]: a secret text that can be searched for in everything that was written.
//!
//! A new file beside `main.rs` must be declared there; `tests/floors.rs` checks it.

#[macro_use]
pub mod requires;
pub mod actions;
pub mod canary;
pub mod certificates;
pub mod dir;
pub mod env;
pub mod fault;
pub mod golden;
pub mod image;
pub mod layout;
pub mod processes;
pub mod progress;
pub mod random;
pub mod registry;
pub mod relay;
pub mod s3;
/// A server whose responses a test determines: that of the registry client's own tests.
#[path = "../../../src/registry/tests/server.rs"]
pub mod server;
pub mod tokens;
pub mod tree;
pub mod web;

pub use env::TestEnv;
pub use fault::Fault;
pub use golden::Golden;
pub use image::Image;
pub use progress::Progress;
pub use registry::Registry;
pub use relay::Relay;
pub(crate) use server::{Reply, Request, Server};
pub use tokens::Tokens;
pub use tree::Tree;
