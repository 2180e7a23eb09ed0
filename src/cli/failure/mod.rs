//! Errors as messages, hints and exit codes. No other module has hints or names flags.
//!
//! **Holds.** A [`Failure`] has a kind, which decides the exit code, one message, notes, hints, and diagnostics with their
//! sources. It is printed once, by [`Failure::report`].
//! **Order.** `error: message`, the excerpt, then `note:` lines, then `hint:` lines.

mod build;
mod copy;
mod fetch;
mod host;
mod image;
mod message;
mod panics;
mod registry;
mod sandbox;

pub(super) use build::{notice_hints, word};
pub(super) use copy::{SCHEMES, copy_hint};
pub(super) use fetch::fetch_hint;
pub(super) use host::OTHER_STORE;
pub(super) use image::describe;
pub(super) use message::{Done, Failure, Kind, SUCCESS, chain};
pub(super) use panics::report_panics;
pub(super) use sandbox::{hint as sandbox_hint, no_private_network, single_id};
