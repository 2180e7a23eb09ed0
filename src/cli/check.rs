//! `kiln check`, `kiln build --check` and `--call`: what is wrong or odd about a Dockerfile, without building it.
//!
//! **Holds.** The JSON form and the exit status are BuildKit's (behaviour §2.6): 1 if anything was found, also if it is
//! only a warning. Base images are looked up in the store; a network is not needed, so of images that are not there
//! nothing is assumed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::dockerfile::{Diagnostic, Severity, Source, lint};
use crate::oci::image::Image;
use crate::plan::{self, Configs, ImageName, Plan, Planned};
use crate::store::Store;
use crate::ui::excerpt;

use super::Session;
use super::args::{CheckArgs, Format};
use super::failure::{Done, Failure, SUCCESS};
use super::outline;
use super::read::{Read, read};
use super::request::{self, SourceRequest};

/// What is asked about a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What is wrong or odd.
    Check,
    /// What the target takes.
    Outline,
    /// Which stages there are.
    Targets,
}

/// `kiln check`.
pub(super) fn run(args: &CheckArgs, session: &mut Session<'_>) -> Done {
    let request = request::check(args, session.environment)?;
    let question = match (args.outline, args.targets) {
        (true, _) => Question::Outline,
        (_, true) => Question::Targets,
        _ => Question::Check,
    };
    answer(question, args.format, request, session)
}

/// `--call METHOD[,format=json]` and `--check`.
pub(super) fn parse_call(text: &str) -> Result<(Question, Format), Failure> {
    let wrong =
        || Failure::usage(format!("--call {text:?}: want check, outline or targets, perhaps with ,format=json"));
    let (method, format) = match text.split_once(',') {
        Some((method, "format=json")) => (method, Format::Json),
        Some((method, "format=text")) => (method, Format::Text),
        Some(_) => return Err(wrong()),
        None => (text, Format::Text),
    };
    match method {
        "check" | "lint" => Ok((Question::Check, format)),
        "outline" => Ok((Question::Outline, format)),
        "targets" => Ok((Question::Targets, format)),
        _ => Err(wrong()),
    }
}

/// Answers on standard output.
pub(super) fn answer(
    question: Question,
    format: Format,
    mut request: SourceRequest,
    session: &mut Session<'_>,
) -> Done {
    request.options.all_stages = question == Question::Check && request.options.target.is_none();
    let read = match read(&request) {
        Ok(read) => read,
        Err(failure) => return broken(question, format, failure, session),
    };
    if question == Question::Targets {
        outline::targets(&read.dockerfile, format, session)?;
        return Ok(SUCCESS);
    }
    let plan = match plan_offline(&read, &request, session) {
        Ok(plan) => plan,
        Err(failure) => return broken(question, format, failure, session),
    };
    if question == Question::Outline {
        outline::outline(&plan.outline, format, session)?;
        return Ok(SUCCESS);
    }
    let (found, _) = read.warnings(&plan)?;
    report(&read.dockerfile.source, &found, format, session)
}

/// Plans with the configs that the store has; images it does not have are taken to say nothing.
fn plan_offline(read: &Read, request: &SourceRequest, session: &Session<'_>) -> Result<Plan, Failure> {
    let root = session.store_root()?;
    let store = if root.join("version").exists() { Store::open(&root).ok() } else { None };
    let mut options = request.options.clone();
    let mut configs = Configs::new();
    loop {
        let wrong = |problems| Failure::diagnostics(&read.dockerfile.source, problems);
        match plan::plan(&read.dockerfile, &options, &configs).map_err(wrong)? {
            Planned::Done(plan) => return Ok(*plan),
            Planned::Needs(needs) => {
                let known = configs.len();
                for request in needs {
                    let ImageName::Reference(name) = &request.image else { continue };
                    let target = store.as_ref().and_then(|store| store.resolve(name).ok().flatten());
                    if let (Some(store), Some(target)) = (&store, target)
                        && let Ok(image) = Image::read(store, &target, &request.platform)
                    {
                        configs.insert(request, image.config);
                    }
                }
                options.assume_bases = configs.len() == known;
            }
        }
    }
}

/// The Dockerfile cannot be built at all: for the JSON form that is part of the answer.
fn broken(question: Question, format: Format, failure: Failure, session: &mut Session<'_>) -> Done {
    let Some((source, problem)) = failure.places.iter().find(|(_, d)| d.severity == Severity::Error) else {
        return Err(failure);
    };
    if question != Question::Check || format == Format::Text {
        return Err(failure);
    }
    let warnings = failure.places.iter().filter(|(_, d)| d.severity == Severity::Warning);
    let answer = json!({
        "warnings": warnings.map(|(source, d)| warning(source, d)).collect::<Vec<_>>(),
        "sources": [source_info(source)],
        "buildError": { "message": problem.message, "location": location(source, problem) },
    });
    session.console.data(format_args!("{answer}"))?;
    Ok(failure.kind.code())
}

fn report(source: &Source, found: &[Diagnostic], format: Format, session: &mut Session<'_>) -> Done {
    match format {
        Format::Json => {
            let warnings: Vec<Value> = found.iter().map(|d| warning(source, d)).collect();
            let answer = json!({ "warnings": warnings, "sources": [source_info(source)] });
            session.console.data(format_args!("{answer}"))?;
        }
        Format::Text => {
            if !found.is_empty() {
                let text = excerpt::render_with(source, found, session.console.out_colour());
                session.console.data(format_args!("{text}"))?;
            }
            let count = match found.len() {
                0 => "no warnings".to_owned(),
                1 => "1 warning".to_owned(),
                n => format!("{n} warnings"),
            };
            session.console.data(format_args!("{}: {count}", crate::ui::sanitize::text(source.name())))?;
        }
    }
    Ok(u8::from(!found.is_empty()))
}

/// One warning as BuildKit's lint results have it.
fn warning(source: &Source, diagnostic: &Diagnostic) -> Value {
    let rule = diagnostic.code.and_then(lint::find);
    json!({
        "ruleName": diagnostic.code.unwrap_or_default(),
        "description": rule.map_or("", |rule| rule.description),
        "url": rule.and_then(lint::Rule::url).unwrap_or_default(),
        "detail": diagnostic.message,
        "level": 1,
        "location": location(source, diagnostic),
    })
}

fn location(source: &Source, diagnostic: &Diagnostic) -> Value {
    let source = diagnostic.source.as_ref().unwrap_or(source);
    let place = |at| {
        let at = source.position(at);
        json!({ "line": at.line, "character": at.column - 1 })
    };
    let span = diagnostic.span;
    json!({ "sourceIndex": 0, "ranges": [{ "start": place(span.start), "end": place(span.end) }] })
}

fn source_info(source: &Source) -> Value {
    json!({ "filename": source.name(), "language": "Dockerfile", "data": STANDARD.encode(source.text()) })
}
