//! Dispatches processes that kiln starts as copies of itself.

use std::ffi::{OsStr, OsString};

use super::{starter, userns};

/// What `main` does next.
#[derive(Debug)]
pub enum Reentry {
    /// This was a process of kiln's own, and its work is done: exit with this code.
    Done(u8),
    /// Continue with this command line (program name first).
    Continue(Vec<OsString>),
}

/// Runs a process of kiln's own, if this is one. `main` calls it first, before any thread exists.
pub fn reentry(argv: Vec<OsString>) -> Reentry {
    match argv.get(1).map(OsString::as_os_str) {
        Some(arg) if arg == OsStr::new(starter::ARGUMENT) => Reentry::Done(starter::main()),
        Some(arg) if arg == OsStr::new(userns::ARGUMENT) => {
            userns::inside(argv).map_or(Reentry::Done(125), Reentry::Continue)
        }
        _ => Reentry::Continue(argv),
    }
}
