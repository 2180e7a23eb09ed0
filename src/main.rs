//! The `kiln` program: re-entry first, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kiln::cli::main(std::env::args_os()))
}
