//! A failed build in words: which instruction, what it said, what would help.

use std::io::ErrorKind;

use crate::build::{Error, StepError};
use crate::dockerfile::{Diagnostic, Dockerfile};
use crate::plan::Plan;
use crate::sandbox::userns::single_id_reason;
use crate::ui::lines::Lines;

use crate::cli::build::bases;

use super::{Failure, Kind, chain};

/// Lines of a failing command's output that are repeated below its error.
const LAST_LINES: usize = 20;

impl Failure {
    /// Why `plan`, made from `dockerfile`, has no image.
    pub(in crate::cli) fn of_build(error: &Error, plan: &Plan, dockerfile: &Dockerfile) -> Self {
        let (step, source) = match error {
            Error::Step { step, source, .. } => (*step, source),
            Error::Cancelled | Error::Stopped => return Self::new(Kind::Interrupted, "interrupted"),
            Error::TimedOut(_) => return Self::from_error(Kind::Build, error).hint("give it more with --timeout"),
            other => return Self::of_error(other),
        };
        let meta = &plan.step(step).meta;
        let (kind, message) = describe(source);
        let mut diagnostic = Diagnostic::error(meta.span, message);
        for hint in hints(source) {
            diagnostic = diagnostic.hint(hint);
        }
        let mut failure = Self::new(kind, "");
        failure.output = last_lines(source).into();
        failure.places.push((dockerfile.source.clone(), diagnostic));
        failure
    }

    /// Why something that is no step of a Dockerfile, but is done like one, failed.
    pub(in crate::cli) fn of_step(error: &StepError) -> Self {
        let (kind, message) = describe(error);
        hints(error).into_iter().fold(Self::new(kind, message), Self::hint)
    }
}

/// The kind of failure, and what happened in one line.
fn describe(error: &StepError) -> (Kind, String) {
    let kind = match error {
        StepError::Sandbox(e) if e.is_host() => Kind::Host,
        StepError::Image(e) => bases::describe(e).0,
        other if host_fault(other).is_some() => Kind::Host,
        _ => Kind::Build,
    };
    (kind, chain(error))
}

fn hints(error: &StepError) -> Vec<String> {
    let hint = match error {
        StepError::Sandbox(e) => e.hint().map(str::to_owned),
        StepError::Image(e) => bases::describe(e).2,
        StepError::Mount { hint, .. } => hint.clone(),
        StepError::Copy(e) => e.hint(),
        StepError::Exit { exit, .. } => status_hint(exit.code()).map(str::to_owned),
        other => host_fault(other).map(str::to_owned),
    };
    let mut hints: Vec<String> = hint.into_iter().collect();
    // A chown or setgroups in the command may be what failed: nothing can belong to anybody else here.
    if matches!(error, StepError::Exit { .. })
        && let Some(reason) = single_id_reason()
    {
        hints.push(format!("if it changes owners or groups: only one user id is available here: {reason}"));
    }
    hints
}

/// What a command's status usually means.
fn status_hint(code: i32) -> Option<&'static str> {
    match code {
        126 => Some("status 126: a file was found but could not be executed; look at its mode and its first line"),
        127 => Some("status 127: a command was not found; look at PATH and at what the base image has"),
        137 => Some("killed: perhaps the machine or a limit ran out of memory"),
        _ => None,
    }
}

/// Some error in the chain is a full or read-only disk: what would help.
pub(super) fn host_fault(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Some(super::FREE_SPACE),
            Some(ErrorKind::ReadOnlyFilesystem) => return Some(super::ELSEWHERE),
            _ => next = error.source(),
        }
    }
    None
}

fn last_lines(error: &StepError) -> Vec<String> {
    let StepError::Exit { tail, .. } = error else { return Vec::new() };
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    lines.feed(tail, |line| out.push(line));
    lines.finish(|line| out.push(line));
    out.split_off(out.len().saturating_sub(LAST_LINES))
}
