//! `kiln check`, `kiln build --check` and `--call`: what is wrong or odd about a Dockerfile, without building it.
//!
//! **Holds.** The JSON form and the exit status are BuildKit's: 1 if a rule found anything, also if it is
//! only a warning. Base images are looked up in the store; a network is not needed, so of images that are not there
//! nothing is assumed.

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
    let stop = session.interruptible()?;
    let _fetched =
        session.fetch(&mut request, &BTreeMap::new(), &BTreeMap::new(), session.environment.agent(), &stop)?;
    // Whether this build may do what the Dockerfile asks for is not its Dockerfile's fault.
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
        let text = format!("{image} is not in the store: what depends on its config is not checked");
        session.console.message(&crate::ui::sanitize::text(&text));
    }
    let (found, fatal) = read.warnings(&plan)?;
    report(&read.dockerfile.source, &found, fatal, format, session)
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

/// `fatal` = the author wants the build to fail for them.
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
    // BuildKit knows only rules: what else is worth a word fails nothing.
    Ok(u8::from(found.iter().any(|warning| warning.code.is_some())))
}

/// With the page that explains its rule.
fn explained(diagnostic: Diagnostic) -> Diagnostic {
    match diagnostic.code.and_then(lint::find).and_then(lint::Rule::url) {
        Some(url) => diagnostic.note(url),
        None => diagnostic,
    }
}

/// The file, and the ONBUILD triggers that something was found in.
fn sources(file: &Source, found: &[Diagnostic]) -> Vec<Source> {
    let mut sources = vec![file.clone()];
    for source in found.iter().filter_map(|d| d.source.as_ref()) {
        if !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    sources
}

/// One warning as BuildKit's lint results have it.
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

/// What is wrong and what to do about it, in one line.
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
