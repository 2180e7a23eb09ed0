//! `kiln check`, `kiln build --check` and `--call`: questions about a Dockerfile, answered without building it.
//!
//! **Holds.** JSON form and exit status are BuildKit's: 1 if any rule fired, warnings included. Base images are looked up
//! in the store only, without a network; nothing is assumed about missing ones.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::dockerfile::{Diagnostic, Severity, Source, lint};
use crate::oci::image::Image;
use crate::plan::{self, Configs, ImageName, Plan, Planned};
use crate::store::Store;
use crate::ui::excerpt;

use super::args::{CheckArgs, Format};
use super::failure::{Done, Failure, SUCCESS};
use super::outline;
use super::read::{Read, read};
use super::request::{self, SourceRequest};
use super::session::Session;

/// A question about a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Its errors and warnings.
    Check,
    /// The arguments, secrets and caches of the target.
    Outline,
    /// Its stages.
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
        || Failure::usage(format!("--call {text:?}: want check, outline or targets, optionally with ,format=json"));
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

/// Prints the answer on standard output.
pub(super) fn answer(
    question: Question,
    format: Format,
    mut request: SourceRequest,
    session: &mut Session<'_>,
) -> Done {
    let stop = session.interruptible()?;
    let _fetched =
        session.fetch(&mut request, &BTreeMap::new(), &BTreeMap::new(), session.environment.agent(), &stop)?;
    // A missing entitlement is not a fault of the Dockerfile.
    (request.options.allow_host_network, request.options.allow_insecure) = (true, true);
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
    for image in &plan.assumed {
        let text = format!("{image} is not in the store: checks that need its config are skipped");
        session.console.message(&crate::ui::sanitize::text(&text));
    }
    let (found, fatal) = read.warnings(&plan)?;
    report(&read.dockerfile.source, &found, fatal, format, session)
}

/// Plans with the image configs in the store; the config of a missing image counts as empty.
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

/// The Dockerfile cannot be planned. In JSON form that is part of the answer.
fn broken(question: Question, format: Format, failure: Failure, session: &mut Session<'_>) -> Done {
    let Some((source, problem)) = failure.places.iter().find(|(_, d)| d.severity == Severity::Error) else {
        return Err(failure);
    };
    if question != Question::Check || format == Format::Text {
        return Err(failure);
    }
    let found: Vec<Diagnostic> = failure.places.iter().map(|(_, d)| d.clone()).collect();
    let sources = sources(source, &found);
    let warnings = found.iter().filter(|d| d.severity == Severity::Warning);
    let answer = json!({
        "warnings": warnings.map(|d| warning(&sources, d)).collect::<Vec<_>>(),
        "sources": sources.iter().map(source_info).collect::<Vec<_>>(),
        "buildError": { "message": detail(problem), "location": location(&sources, problem) },
    });
    session.console.data(format_args!("{answer}"))?;
    Ok(failure.kind.code())
}

/// Prints warnings. `fatal`: the Dockerfile asks for them to be errors.
fn report(source: &Source, found: &[Diagnostic], fatal: bool, format: Format, session: &mut Session<'_>) -> Done {
    match format {
        Format::Json => {
            let sources = sources(source, found);
            let warnings: Vec<Value> = found.iter().map(|d| warning(&sources, d)).collect();
            let mut answer =
                json!({ "warnings": warnings, "sources": sources.iter().map(source_info).collect::<Vec<_>>() });
            if fatal {
                let rules: BTreeSet<&str> = found.iter().filter_map(|d| d.code).collect();
                let rules: Vec<&str> = rules.into_iter().collect();
                let message = format!("lint violation found for rules: {}", rules.join(", "));
                answer["buildError"] = json!({ "message": message });
            }
            session.console.data(format_args!("{answer}"))?;
        }
        Format::Text => {
            if !found.is_empty() {
                let found: Vec<Diagnostic> = found.iter().cloned().map(explained).collect();
                let text = excerpt::render_with(source, &found, session.console.out_colour());
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
    // Only rules count, as in BuildKit; other warnings do not change the exit status.
    Ok(u8::from(found.iter().any(|warning| warning.code.is_some())))
}

/// Adds the URL that explains the rule.
fn explained(diagnostic: Diagnostic) -> Diagnostic {
    match diagnostic.code.and_then(lint::find).and_then(lint::Rule::url) {
        Some(url) => diagnostic.note(url),
        None => diagnostic,
    }
}

/// The file, and the ONBUILD triggers with findings.
fn sources(file: &Source, found: &[Diagnostic]) -> Vec<Source> {
    let mut sources = vec![file.clone()];
    for source in found.iter().filter_map(|d| d.source.as_ref()) {
        if !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    sources
}

/// One warning in the form of BuildKit's lint results.
fn warning(sources: &[Source], diagnostic: &Diagnostic) -> Value {
    let rule = diagnostic.code.and_then(lint::find);
    json!({
        "ruleName": diagnostic.code.unwrap_or_default(),
        "description": rule.map_or("", |rule| rule.description),
        "url": rule.and_then(lint::Rule::url).unwrap_or_default(),
        "detail": detail(diagnostic),
        "level": 1,
        "location": location(sources, diagnostic),
    })
}

/// Message and hints in one line.
fn detail(diagnostic: &Diagnostic) -> String {
    diagnostic.hints.iter().fold(diagnostic.message.clone(), |text, hint| format!("{text} ({hint})"))
}

fn location(sources: &[Source], diagnostic: &Diagnostic) -> Value {
    let index = sources.iter().position(|known| Some(known) == diagnostic.source.as_ref()).unwrap_or(0);
    let place = |at| {
        let at = sources[index].position(at);
        json!({ "line": at.line, "character": at.column - 1 })
    };
    let span = diagnostic.span;
    json!({ "sourceIndex": index, "ranges": [{ "start": place(span.start), "end": place(span.end) }] })
}

fn source_info(source: &Source) -> Value {
    json!({ "filename": source.name(), "language": "Dockerfile", "data": STANDARD.encode(source.text()) })
}
