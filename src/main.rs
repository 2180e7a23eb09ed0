//! The `kiln` program: re-entry first, then the command line.

use std::process::ExitCode;

use kiln::sandbox::{Reentry, reentry};

fn main() -> ExitCode {
    ExitCode::from(match reentry(std::env::args_os().collect()) {
        Reentry::Done(code) => code,
        Reentry::Continue(argv) => kiln::cli::main(argv),
    })
}
