//! A failure: its parts, and how it is printed.

use std::error::Error;

use serde_json::json;

use crate::base::fs::FsError;
use crate::dockerfile::{Diagnostic, Entitlement, Source};
use crate::layer;
use crate::ui::console::{Console, Unwritten};
use crate::ui::{excerpt, sanitize};

use super::copy::DAMAGED;
use super::host::host_fault;

/// The exit code of success.
pub(in crate::cli) const SUCCESS: u8 = 0;

/// An exit code, or the failure.
pub(in crate::cli) type Done = Result<u8, Failure>;

/// The kind of a failure; it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// 1: the build failed: the Dockerfile, the context, an image, or a command in it.
    Build,
    /// 2: the command line is wrong.
    Usage,
    /// 3: the host lacks something.
    Host,
    /// 130: interrupted by a signal.
    Interrupted,
    /// 125, 126, 127: the command of `kiln run` did not start.
    Command(u8),
}

impl Kind {
    /// The process's exit code.
    pub(in crate::cli) fn code(self) -> u8 {
        match self {
            Kind::Build => 1,
            Kind::Usage => 2,
            Kind::Host => 3,
            Kind::Interrupted => 130,
            Kind::Command(code) => code,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    /// Decides the exit code.
    pub(in crate::cli) kind: Kind,
    /// One line, lower case, without a full stop. Empty: `places` say everything.
    pub(in crate::cli) message: String,
    /// Diagnostics, shown with their lines of the Dockerfile.
    pub(in crate::cli) places: Vec<(Source, Diagnostic)>,
    /// The last lines of output of a failed command, safe for a terminal.
    pub(in crate::cli) output: Box<[String]>,
    /// Facts that help to understand the failure.
    pub(in crate::cli) notes: Vec<String>,
    /// What to do.
    pub(in crate::cli) hints: Vec<String>,
    /// Standard output is closed: nothing is printed.
    silent: bool,
}

impl Failure {
    /// A failure with only a message.
    pub(in crate::cli) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: sanitize::plain(&message.into()),
            places: vec![],
            output: Box::default(),
            notes: vec![],
            hints: vec![],
            silent: false,
        }
    }

    /// All problems of a Dockerfile.
    pub(in crate::cli) fn diagnostics(dockerfile: &Source, found: Vec<Diagnostic>) -> Self {
        let place = |d: Diagnostic| (d.source.clone().unwrap_or_else(|| dockerfile.clone()), with_permission(d));
        Self { places: found.into_iter().map(place).collect(), ..Self::build("") }
    }

    /// The command line is wrong.
    pub(in crate::cli) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The build failed.
    pub(in crate::cli) fn build(message: impl Into<String>) -> Self {
        Self::new(Kind::Build, message)
    }

    /// The message of `error` and its sources. A full or read-only disk among them is a fault of the host.
    pub(in crate::cli) fn of_error(error: &(dyn Error + 'static)) -> Self {
        match host_fault(error) {
            Some(hint) => Self::from_error(Kind::Host, error).hint(hint),
            None => Self::from_error(Kind::Build, error),
        }
    }

    /// An archive is unusable; `what` names it.
    pub(in crate::cli) fn of_archive(what: &str, error: &layer::Error) -> Self {
        let failure = Self::of_error(error).prefixed(&format!("{what}: "));
        match error {
            layer::Error::Stream(_) if failure.kind == Kind::Build && !error.is_limit() => failure.hint(DAMAGED),
            _ => failure,
        }
    }

    /// The message of `error` and its sources, each once.
    pub(in crate::cli) fn from_error(kind: Kind, error: &dyn Error) -> Self {
        Self::new(kind, chain(error))
    }

    /// Puts `words` in front of the message.
    pub(in crate::cli) fn prefixed(mut self, words: &str) -> Self {
        self.message.insert_str(0, words);
        self
    }

    /// Adds a hint: one imperative sentence.
    pub(in crate::cli) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a fact.
    pub(in crate::cli) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Prints the failure on standard error and gives the exit code.
    pub(in crate::cli) fn report(&self, console: &mut Console) -> u8 {
        if self.silent {
            return SUCCESS;
        }
        if console.is_json() {
            self.report_json(console);
            return self.kind.code();
        }
        for (source, diagnostic) in &self.places {
            console.message(&excerpt::render_with(source, std::slice::from_ref(diagnostic), console.colour()));
        }
        if !self.output.is_empty() {
            console.message("last output:");
            for line in &self.output {
                console.message(&format!("  | {line}"));
            }
        }
        if !self.message.is_empty() {
            console.labelled("error", &sanitize::text(&self.message));
        }
        for note in &self.notes {
            console.labelled("note", &sanitize::text(note));
        }
        for hint in &self.hints {
            console.labelled("hint", &sanitize::text(hint));
        }
        self.kind.code()
    }
}

impl Failure {
    /// Prints JSON lines: one per diagnostic, then the failure.
    fn report_json(&self, console: &mut Console) {
        for (source, diagnostic) in &self.places {
            console.message(&excerpt::json(source, diagnostic).to_string());
        }
        let message = match (self.message.is_empty(), self.places.first()) {
            (true, Some((_, diagnostic))) => diagnostic.message.as_str(),
            _ => self.message.as_str(),
        };
        let value = json!({
            "event": "error",
            "code": self.kind.code(),
            "message": message,
            "output": self.output,
            "notes": self.notes,
            "hints": self.hints,
        });
        console.message(&value.to_string());
    }
}

/// `error: source: source of the source`; a source whose text is already there is not repeated.
pub(in crate::cli) fn chain(error: &dyn Error) -> String {
    let mut text = sanitize::plain(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = sanitize::plain(&cause.to_string());
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<Unwritten> for Failure {
    fn from(lost: Unwritten) -> Self {
        let silent = lost.0.kind() == std::io::ErrorKind::BrokenPipe;
        Self { silent, ..Self::new(Kind::Host, format!("cannot write to standard output: {}", lost.0)) }
    }
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        match error.source.kind() {
            std::io::ErrorKind::PermissionDenied => Self::from_error(Kind::Host, &error),
            _ => Self::of_error(&error),
        }
    }
}

/// Adds the option that gives the permission a problem is about.
fn with_permission(problem: Diagnostic) -> Diagnostic {
    match problem.needs {
        Some(Entitlement::HostNetwork) => problem.hint("allow it with --allow network.host"),
        Some(Entitlement::Insecure) => problem.hint("allow it with --allow security.insecure"),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_kinds_map_to_exit_codes() {
        // O-72
        let codes = [Kind::Build, Kind::Usage, Kind::Host, Kind::Interrupted].map(Kind::code);
        assert_eq!(codes, [1, 2, 3, 130]);
    }

    #[test]
    fn failure_prints_message_notes_then_hints() {
        // P-22
        let mut console = Console::capture();
        let failure = Failure::usage("no such \u{1b}[31mthing").note("it was never there").hint("look elsewhere");
        assert_eq!(failure.report(&mut console), 2);
        let (out, err) = console.captured();
        assert_eq!(out, "");
        // S-99: the escape arrives as text.
        assert_eq!(err, "error: no such \\x1b[31mthing\nnote: it was never there\nhint: look elsewhere\n");
    }

    #[test]
    fn chain_prints_each_cause_once() {
        let cause = std::io::Error::other("no space");
        let error = FsError::new("write", std::path::Path::new("/x"), cause);
        assert_eq!(chain(&error), "cannot write /x: no space");
    }

    #[test]
    fn messages_omit_system_error_numbers() {
        let error = std::io::Error::from_raw_os_error(28);
        assert_eq!(chain(&error), "No space left on device");
        assert_eq!(sanitize::plain("a (os error 2): b (os error 13)"), "a: b");
    }

    #[test]
    fn closed_stdout_is_not_an_error() {
        let failure = Failure::from(Unwritten(std::io::ErrorKind::BrokenPipe.into()));
        let mut console = Console::capture();
        assert_eq!(failure.report(&mut console), SUCCESS);
        assert_eq!(console.captured().1, "");
    }
}
