//! Integration tests: real builds with the real binary, whose results are read by independent programs.
//!
//! [`support`] shows how to write a test.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests stand outside: they set the environment, write contexts and read results with plain std::fs"
)]

#[macro_use]
mod support;

mod accepted;
mod apps;
mod build;
mod config;
mod contexts;
mod copy;
mod coverage;
mod dockerfile;
mod documents;
mod errors;
mod harness;
mod images;
mod layers;
mod lint;
mod mounts;
mod options;
mod packages;
mod registry;
mod run;
mod sandbox;
mod store;
