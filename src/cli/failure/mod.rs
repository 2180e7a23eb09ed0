//! Errors as words and exit codes: the only place where a module's error meets a person.
//!
//! **Holds.** A [`Failure`] has a kind (which decides the exit code), one message, what lies behind it, hints and
//! excerpts that are already rendered. Printed once, in [`Failure::report`].
//! **Order.** `error: message`, the excerpt, then `note:` lines, then `hint:` lines.

mod build;
mod fetch;
mod host;
mod image;
mod message;
mod panics;
mod registry;
mod sandbox;

pub(super) use build::{of_notices, word};
pub(super) use fetch::fetch_hint;
pub(super) use host::ELSEWHERE;
pub(super) use image::describe;
pub(super) use message::{Done, Failure, Kind, SUCCESS, chain};
pub(super) use panics::report_panics;
pub(super) use sandbox::{hint as sandbox_hint, no_private_network, single_id};
