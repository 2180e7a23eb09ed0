//! A failed build in words: which instruction, what it said, what would help.

use std::path::Path;

use crate::base::fs;
use crate::context;
use crate::copy;
use crate::dockerfile::suggest::nearest;
use crate::dockerfile::{Diagnostic, Dockerfile, Source, Span, resembles_json};
use crate::engine::{Clues, Error, Input, StepError};
use crate::plan::{Base, ContextName, CopyFrom, CopySource, ImageName, Mount, Plan, StepId, StepKind};
use crate::sandbox::{Notice, userns};
use crate::ui::lines::Lines;

use super::fetch::fetch_hint;
use super::host::{FREE_SPACE, host_fault};
use super::image;
use super::message::{Failure, Kind, chain};
use super::sandbox::{CRLF, exec_obstacle, hint, single_id};

/// A shell's statuses for a command that it could not start.
const NOT_FOUND: [i32; 2] = [126, 127];

/// Lines of a failing command's output that are repeated below its error.
const LAST_LINES: usize = 20;

impl Failure {
    /// Why `plan`, made from `dockerfile` for the context at `context`, has no image. No `context`: the Dockerfile came
    /// without one.
    pub(in crate::cli) fn of_build(
        error: &Error,
        plan: &Plan,
        dockerfile: &Dockerfile,
        context: Option<&Path>,
    ) -> Self {
        let (step, source) = match error {
            Error::Step { step, source, .. } => (*step, source),
            Error::Cancelled | Error::Stopped => return Self::new(Kind::Interrupted, "interrupted"),
            Error::TimedOut(_) => return Self::from_error(Kind::Build, error).hint("give it more with --timeout"),
            other => return Self::of_error(other),
        };
        let meta = &plan.step(step).meta;
        let (kind, message) = describe(source);
        let mut diagnostic = Diagnostic::error(meta.span, message);
        if let Some((path, explained)) = missing(source)
            && let Some((from, written, before)) = wanted_from(&plan.step(step).kind, path)
        {
            diagnostic.span = word(&dockerfile.source, meta.span, written, before);
            let (place, here) = match from {
                CopyFrom::Context(ContextName::Main) => ("in the context".to_owned(), context.is_some()),
                CopyFrom::Context(ContextName::Named(name)) => (format!("in the context {name}"), false),
                CopyFrom::Step(from) => (format!("in {}", place_of(plan, *from)), false),
            };
            diagnostic.message = format!("{written} not found {place}");
            match context {
                None if matches!(from, CopyFrom::Context(ContextName::Main)) => {
                    diagnostic =
                        diagnostic.hint("the Dockerfile came alone, without files: kiln build -f - DIR gives it some");
                }
                Some(context) if here && !explained => {
                    if let Some(name) = similar(path, context) {
                        diagnostic = diagnostic.hint(format!("did you mean {name}?"));
                    }
                }
                _ => {}
            }
        }
        if is_unread_list(&plan.step(step).kind) {
            diagnostic =
                diagnostic.hint("this is not a JSON list: its strings stand in double quotes (\"), and `]` comes last");
        } else {
            diagnostic = hints(source).into_iter().fold(diagnostic, Diagnostic::hint);
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
        StepError::Image(e) => image::describe(e).0,
        other if host_fault(other).is_some() => Kind::Host,
        _ => Kind::Build,
    };
    (kind, chain(error))
}

fn hints(error: &StepError) -> Vec<String> {
    let advice = match error {
        StepError::Sandbox(e) => e.hint().map(hint),
        StepError::Image(e) => image::describe(e).2,
        StepError::NotGiven { input, .. } => Some(format!("give it with {}", flag_of(input))),
        StepError::Copy(e) => match &**e {
            copy::Error::Fetch(e) => fetch_hint(e),
            e => e.hint(),
        },
        _ => None,
    };
    let host = || host_fault(error).map(str::to_owned);
    let mut hints: Vec<String> = match error {
        StepError::Exit { exit, tail, clues, .. } => exit_hints(exit.code(), tail, clues),
        _ => advice.or_else(host).into_iter().collect(),
    };
    if let StepError::Exit { noticed, .. } = error {
        hints.extend(of_notices(noticed.as_deref()));
    }
    hints
}

/// What a command that failed could not know: which of its calls cannot work here, and why.
pub(in crate::cli) fn of_notices(noticed: Option<&[Notice]>) -> Vec<String> {
    let mut hints = Vec::new();
    match (noticed, userns::single_id_reason().as_ref().map(single_id)) {
        (Some(noticed), reason) if noticed.contains(&Notice::ForeignId) => {
            let reason = reason.unwrap_or_else(|| "give the user a range that covers it in /etc/subuid".to_owned());
            hints.push(format!("the command used a user or group id that is not available here: {reason}"));
        }
        // A chown or setgroups in the command may be what failed.
        (None, Some(reason)) => {
            hints.push(format!("if it changes owners or groups: only one user id is available here: {reason}"));
        }
        _ => {}
    }
    if noticed.is_some_and(|noticed| noticed.contains(&Notice::Device)) {
        let root = matches!(userns::privilege(), Ok(userns::Privilege::Root));
        hints.push(
            match root {
                true => {
                    "the command made a device node, which cannot be opened here; --device gives it one of the host's"
                }
                false => "the command tried to make a device node, which only root of the host may: run kiln as root",
            }
            .to_owned(),
        );
    }
    hints
}

/// The step was written as a JSON list, which was not read as one.
fn is_unread_list(kind: &StepKind) -> bool {
    match kind {
        StepKind::Run(run) => run.argv.last().is_some_and(|script| resembles_json(script)),
        StepKind::Copy(copy) => {
            matches!(copy.sources.first(), Some(CopySource::Path(path)) if resembles_json(path))
        }
        _ => false,
    }
}

/// What may have kept a command from succeeding, the likeliest first.
fn exit_hints(code: i32, tail: &[u8], clues: &Clues) -> Vec<String> {
    let said = |text: &[u8]| tail.windows(text.len()).any(|bytes| bytes == text);
    let mut hints = Vec::new();
    if clues.full || said(b"No space left on device") {
        hints.push(format!("what a command writes is kept in the store; {}", FREE_SPACE));
    } else if let Some((path, obstacle)) = &clues.unstartable {
        hints.push(format!("{path} {}", exec_obstacle(obstacle)));
    } else if NOT_FOUND.contains(&code) && said(b"\r") {
        hints.push(format!("a name in the output ends in a carriage return: {CRLF}"));
    } else {
        hints.extend(status_hint(code).map(str::to_owned));
    }
    let ungiven = clues.ungiven.iter();
    hints.extend(
        ungiven.map(|input| format!("the {input} was not given; if the command needs it, add {}", flag_of(input))),
    );
    hints
}

/// The option that gives `input` to a build.
fn flag_of(input: &Input) -> String {
    match input {
        Input::Secret(id) => format!("--secret id={id},src=FILE"),
        Input::Agent(id) => format!("--ssh {id}"),
    }
}

/// The source that a COPY or ADD did not find, and whether it is known why: an ignore rule hides it, or a link leads
/// nowhere.
fn missing(error: &StepError) -> Option<(&str, bool)> {
    let StepError::Copy(error) = error else { return None };
    match &**error {
        copy::Error::Source(context::Error::NotFound { path, excluded, led }) => {
            Some((str::from_utf8(path).ok()?, excluded.is_some() || led.is_some()))
        }
        _ => None,
    }
}

/// Where the source `path` of a step is looked for, how it is written, and what may stand before it.
fn wanted_from<'p>(kind: &'p StepKind, path: &'p str) -> Option<(&'p CopyFrom, &'p str, &'static str)> {
    match kind {
        StepKind::Copy(copy) => Some((&copy.from, path, "")),
        StepKind::Run(run) => run.mounts.iter().find_map(|mount| match mount {
            Mount::Bind { from, source, .. } if source == path => Some((from, path.trim_start_matches('/'), "=")),
            _ => None,
        }),
        _ => None,
    }
}

/// Where `text` is written in the instruction at `span`, perhaps after one of `before`; all of it if it is not, because
/// a variable stands for it.
pub(in crate::cli) fn word(source: &Source, span: Span, text: &str, before: &str) -> Span {
    let instruction = source.text().get(span.start as usize..span.end as usize).unwrap_or_default();
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || "\",[]".contains(c));
    let begins = |c: Option<char>| ends(c) || c.is_some_and(|c| before.contains(c) || (c == '/' && !before.is_empty()));
    let found = instruction.match_indices(text).map(|(at, _)| at).find(|&at| {
        begins(instruction[..at].chars().next_back()) && ends(instruction[at + text.len()..].chars().next())
    });
    match found {
        Some(at) => {
            let start = span.start + at as u32;
            Span { start, end: start + text.len() as u32 }
        }
        None => span,
    }
}

/// A file beside where `path` would be that is called much like it.
fn similar(path: &str, context: &Path) -> Option<String> {
    let path = Path::new(path.trim_start_matches('/').trim_end_matches('/'));
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?);
    let names: Vec<String> =
        fs::list(&context.join(dir)).ok()?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    let near = nearest(name, names.iter().map(String::as_str))?;
    Some(dir.join(near).display().to_string())
}

/// What the image or stage is called whose files `step` has.
fn place_of(plan: &Plan, step: StepId) -> String {
    if let StepKind::Base(Base::Image(wanted)) = &plan.step(step).kind
        && let ImageName::Reference(name) = &wanted.image
    {
        return format!("the image {}", name.familiar());
    }
    let index = plan.step(step).meta.stage;
    match plan.stages.iter().find(|stage| stage.index == index).and_then(|stage| stage.name.as_ref()) {
        Some(name) => format!("stage {name}"),
        None => format!("stage {index}"),
    }
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

fn last_lines(error: &StepError) -> Vec<String> {
    let StepError::Exit { tail, .. } = error else { return Vec::new() };
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    lines.feed(tail, |line| out.push(line));
    lines.finish(|line| out.push(line));
    out.split_off(out.len().saturating_sub(LAST_LINES))
}
