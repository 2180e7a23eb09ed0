//! From the command line to requests; the only reader of the environment.
//!
//! **Holds.** [`Environment`] is read once at start; no other module reads variables. `build`, `run` and `source` turn a command
//! line into a request. `value`, `output` and the other files parse the values of options.

mod bucket;
mod build;
mod cache;
mod container;
mod devices;
mod environment;
mod gha;
mod given;
mod output;
mod publish;
mod registry;
mod registry_files;
mod run;
mod secret;
mod source;
mod ssh;
mod value;

pub(super) use build::{BuildRequest, build};
pub(super) use cache::{CacheFrom, Place};
pub(super) use environment::{BEGAN, Environment};
pub(super) use output::{Destination, Form, Output};
pub(super) use run::{RunRequest, command_line, run};
pub(super) use secret::SecretFrom;
pub(super) use source::{DockerfileFrom, Remote, SourceRequest, check};
pub(super) use ssh::SshFrom;
pub(super) use value::{moment, size};

#[cfg(test)]
mod tests;
