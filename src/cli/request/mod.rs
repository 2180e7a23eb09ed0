//! From what was typed to what is meant here: the one place that reads the environment.
//!
//! **Holds.** [`Environment`], a value read once at start and passed on; below this module nothing asks the process
//! what its variables or directory are. `build` and `check` turn a command line into a request; `value` and
//! `output` read the small languages inside option values.

mod around;
mod build;
mod devices;
mod environment;
mod output;
mod publish;
mod registry;
mod run;
mod secret;
mod source;
mod ssh;
mod value;

pub(super) use build::{BuildRequest, build};
pub(super) use environment::{BEGAN, Environment};
pub(super) use output::{Destination, Form, Output};
pub(super) use run::{RunRequest, command_line, run};
pub(super) use secret::SecretFrom;
pub(super) use source::{DockerfileFrom, Remote, SourceRequest, check};
pub(super) use ssh::SshFrom;
pub(super) use value::size;

#[cfg(test)]
mod tests;
