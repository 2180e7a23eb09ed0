//! `--on-failure=shell`: a shell in place of the failed command.

use std::ffi::{OsStr, OsString};

use crate::cli::failure::chain;
use crate::sandbox::{Cancel, Io, Launcher, Signals, Spec};
use crate::ui::console::Console;
use crate::ui::sanitize;

/// Opens a shell with the files, mounts, environment and user of the failed command of `spec`. Its changes are discarded, and
/// the build fails in any case.
pub(super) fn open(step: &str, spec: &Spec, term: &OsStr, console: &mut Console) {
    let mut spec = spec.clone();
    spec.argv = vec![shell(&spec.argv)];
    spec.env.retain(|(name, _)| name != "TERM");
    spec.env.push(("TERM".into(), term.to_owned()));
    let what = "this shell has its files, which are discarded afterwards; exit to end the build";
    console.labelled("note", &format!("{} failed: {what}", sanitize::text(step)));
    if let Err(why) = run(&spec) {
        console.labelled("warning", &format!("cannot open a shell: {}", sanitize::text(&why)));
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
    fn shell_after_failure_matches_the_command() {
        let shell_of = |argv: &[&str]| shell(&argv.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(shell_of(&["/bin/bash", "-o", "pipefail", "-c", "x"]), "/bin/bash");
        assert_eq!(shell_of(&["/usr/bin/make", "all"]), "/bin/sh");
    }
}
