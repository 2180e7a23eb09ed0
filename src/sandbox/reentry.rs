//! The processes that kiln starts as copies of itself.

use std::ffi::{OsStr, OsString};

use super::{userns, warden};

/// What `main` does next.
#[derive(Debug)]
pub enum Reentry {
    /// This process was started by kiln for itself and has done its work: exit with this code.
    Done(u8),
    /// Go on with this command line (program name first).
    Continue(Vec<OsString>),
}

/// Does the work of a process that kiln started for itself. `main` calls it first, before any thread exists.
pub fn reentry(argv: Vec<OsString>) -> Reentry {
    match argv.get(1).map(OsString::as_os_str) {
        Some(arg) if arg == OsStr::new(warden::ARGUMENT) => Reentry::Done(warden::main()),
        Some(arg) if arg == OsStr::new(userns::ARGUMENT) => {
            userns::inside(argv).map_or(Reentry::Done(125), Reentry::Continue)
        }
        _ => Reentry::Continue(argv),
    }
}
