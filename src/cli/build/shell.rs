//! `--on-failure=shell`: a look at what a failed command left.

use std::ffi::{OsStr, OsString};

use crate::cli::failure::chain;
use crate::sandbox::{Cancel, Io, Launcher, Signals, Spec};
use crate::ui::console::Console;
use crate::ui::sanitize;

/// Opens a shell where the command of `spec` failed: its files as it left them, its mounts, environment and user.
/// What the shell changes is discarded; whatever it does, the build has failed.
pub(super) fn open(step: &str, spec: &Spec, term: &OsStr, console: &mut Console) {
    let mut spec = spec.clone();
    spec.argv = vec![shell(&spec.argv)];
    spec.env.retain(|(name, _)| name != "TERM");
    spec.env.push(("TERM".into(), term.to_owned()));
    let what = "a shell in the files it left, discarded afterwards; leave it to end the build";
    console.labelled("note", &format!("{} failed: {what}", sanitize::text(step)));
    if let Err(why) = run(&spec) {
        console.labelled("warning", &format!("no shell could be opened: {}", sanitize::text(&why)));
    }
}

fn run(spec: &Spec) -> Result<(), String> {
    let cancel = Cancel::new().map_err(|e| e.to_string())?;
    let signals = Signals::keep().map_err(|e| e.to_string())?;
    let ran = Launcher::new().run(spec, Io::Terminal { input: true, signals: &signals }, &cancel);
    ran.map(drop).map_err(|e| chain(&e))
}

/// The shell that ran the command, if one did (`SHELL -c COMMAND`).
fn shell(argv: &[OsString]) -> OsString {
    match argv {
        [shell, .., option, _] if option == "-c" => shell.clone(),
        _ => "/bin/sh".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_is_the_one_that_ran_the_command() {
        let shell_of = |argv: &[&str]| shell(&argv.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(shell_of(&["/bin/bash", "-o", "pipefail", "-c", "x"]), "/bin/bash");
        assert_eq!(shell_of(&["/usr/bin/make", "all"]), "/bin/sh");
    }
}
