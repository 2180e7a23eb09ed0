//! A failed build: the instruction, its output, hints.

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

use super::host::{FREE_SPACE, host_fault};
use super::image;
use super::message::{Failure, Kind, chain};
use super::sandbox::{CRLF, exec_obstacle, hint, more_ids};

/// The exit statuses of a shell for a command that it could not start.
const NOT_STARTED: [i32; 2] = [126, 127];

/// Lines of a failed command's output that are repeated below its error.
const LAST_LINES: usize = 20;

impl Failure {
    /// The failure of a build of `plan`. `context`: its directory; none if the Dockerfile came without a context.
    pub(in crate::cli) fn of_build(
        error: &Error,
        plan: &Plan,
        dockerfile: &Dockerfile,
        context: Option<&Path>,
    ) -> Self {
        let (step, source) = match error {
            Error::Step { step, source, .. } => (*step, source),
            Error::Cancelled | Error::Stopped => return Self::new(Kind::Interrupted, "interrupted"),
            Error::TimedOut(_) => return Self::from_error(Kind::Build, error).hint("raise --timeout"),
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
                    diagnostic = diagnostic.hint("pass a context directory: kiln build -f - DIR");
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
            diagnostic = diagnostic.hint("write a JSON list with double quotes (\") and nothing after `]`");
        } else {
            diagnostic = hints(source).into_iter().fold(diagnostic, Diagnostic::hint);
        }
        let mut failure = Self::new(kind, "");
        failure.output = last_lines(source).into();
        failure.places.push((dockerfile.source.clone(), diagnostic));
        failure
    }

    /// The failure of a step outside a build, in `kiln run` and `kiln doctor`.
    pub(in crate::cli) fn of_step(error: &StepError) -> Self {
        let (kind, message) = describe(error);
        hints(error).into_iter().fold(Self::new(kind, message), Self::hint)
    }
}

/// Kind and message of a step's error.
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
        StepError::NotGiven { input, .. } => Some(format!("pass {}", flag_of(input))),
        StepError::Copy(e) => super::copy::copy_hint(e),
        _ => None,
    };
    let host = || host_fault(error).map(str::to_owned);
    let mut hints: Vec<String> = match error {
        StepError::Exit { exit, tail, clues, .. } => exit_hints(exit.code(), tail, clues),
        _ => advice.or_else(host).into_iter().collect(),
    };
    if let StepError::Exit { noticed, .. } = error {
        hints.extend(notice_hints(noticed.as_deref()));
    }
    hints
}

/// Hints about system calls of the command that cannot work on this host.
pub(in crate::cli) fn notice_hints(noticed: Option<&[Notice]>) -> Vec<String> {
    let mut hints = Vec::new();
    match (noticed, userns::single_id_reason()) {
        (Some(noticed), reason) if noticed.contains(&Notice::ForeignId) => {
            let need = "the command used a user or group id that is not available here";
            hints.push(match reason {
                Some(reason) => more_ids(&reason, need),
                None => format!("add a range to /etc/subuid and /etc/subgid that covers the id: {need}"),
            });
        }
        // chown or setgroups may have failed.
        (None, Some(reason)) => hints.push(more_ids(&reason, "the command may have needed more ids")),
        _ => {}
    }
    if noticed.is_some_and(|noticed| noticed.contains(&Notice::Device)) {
        let root = matches!(userns::privilege(), Ok(userns::Privilege::Root));
        hints.push(
            match root {
                true => "add a device of the host with --device: device nodes of a command cannot be opened here",
                false => "run kiln as root: only root of the host can create device nodes",
            }
            .to_owned(),
        );
    }
    hints
}

/// Whether the step looks like a JSON list that did not parse.
fn is_unread_list(kind: &StepKind) -> bool {
    match kind {
        StepKind::Run(run) => run.argv.last().is_some_and(|script| resembles_json(script)),
        StepKind::Copy(copy) => {
            matches!(copy.sources.first(), Some(CopySource::Path(path)) if resembles_json(path))
        }
        _ => false,
    }
}

/// Possible causes of a failed command, the likeliest first.
fn exit_hints(code: i32, tail: &[u8], clues: &Clues) -> Vec<String> {
    let printed = |text: &[u8]| tail.windows(text.len()).any(|bytes| bytes == text);
    let mut hints = Vec::new();
    if clues.full || printed(b"No space left on device") {
        hints.push(FREE_SPACE.to_owned());
    } else if let Some((path, obstacle)) = &clues.unstartable {
        hints.push(exec_obstacle(path, obstacle));
    } else if NOT_STARTED.contains(&code) && printed(b"\r") {
        hints.push(format!("{CRLF}: a name in the output ends in a carriage return"));
    } else {
        hints.extend(status_hint(code).map(str::to_owned));
    }
    let not_given = clues.not_given.iter();
    hints.extend(not_given.map(|input| format!("if the command needs the {input}, pass {}", flag_of(input))));
    hints
}

/// The option that passes `input` to a build.
fn flag_of(input: &Input) -> String {
    match input {
        Input::Secret(id) => format!("--secret id={id},src=FILE"),
        Input::Agent(id) => format!("--ssh {id}"),
    }
}

/// The source that COPY or ADD did not find, and whether the error explains it: an ignore rule or a dangling link.
fn missing(error: &StepError) -> Option<(&str, bool)> {
    let StepError::Copy(error) = error else { return None };
    match &**error {
        copy::Error::Source(context::Error::NotFound { path, excluded, led }) => {
            Some((str::from_utf8(path).ok()?, excluded.is_some() || led.is_some()))
        }
        _ => None,
    }
}

/// Where the step looks for `path`, how the path is written, and which characters may precede it.
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

/// The span of `text` in the instruction at `span`, where one of `before` may precede it. The whole instruction if the text
/// is not there, because a variable stands for it.
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

/// A file in the directory of `path` with a similar name.
fn similar(path: &str, context: &Path) -> Option<String> {
    let path = Path::new(path.trim_start_matches('/').trim_end_matches('/'));
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?);
    let names: Vec<String> =
        fs::list(&context.join(dir)).ok()?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    let near = nearest(name, names.iter().map(String::as_str))?;
    Some(dir.join(near).display().to_string())
}

/// The image or stage that has the files of `step`.
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

/// What an exit status usually means.
fn status_hint(code: i32) -> Option<&'static str> {
    match code {
        126 => Some("check the mode and the first line of the file: status 126 means that it cannot be executed"),
        127 => Some("check PATH and the base image: status 127 means command not found"),
        137 => Some("check the memory limit and the free memory of the host: the command was killed"),
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
