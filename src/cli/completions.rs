//! `kiln completions`: prints a shell completion script.

use clap::CommandFactory as _;

use crate::ui::console::Unwritten;

use super::args::{Cli, CompletionsArgs};
use super::failure::{Done, SUCCESS};
use super::session::Session;

/// Prints the script on standard output.
pub(super) fn run(args: &CompletionsArgs, session: &mut Session<'_>) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    let out = session.console.raw();
    out.write_all(&script).and_then(|()| out.flush()).map_err(Unwritten)?;
    Ok(SUCCESS)
}
