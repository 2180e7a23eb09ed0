//! `--outline` and `--targets`: what a Dockerfile offers (P-20, behaviour §2.6). The JSON forms are BuildKit's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::dockerfile::ast::ArgItem;
use crate::dockerfile::{Dockerfile, Instruction, Source, Span};
use crate::plan::{Mount, Options, Plan, StepKind};

use super::args::Format;
use super::failure::Failure;
use super::{Session, table};

/// Lists the stages.
pub(super) fn targets(file: &Dockerfile, format: Format, session: &mut Session<'_>) -> Result<(), Failure> {
    let last = file.stages.len() - 1;
    let name = |index: usize| file.stages[index].name.as_ref().map(|name| name.node.as_str());
    if format == Format::Json {
        let stages = file.stages.iter().enumerate().map(|(index, stage)| {
            let mut target = BTreeMap::new();
            target.insert("name", name(index).map(Value::from));
            target.insert("default", (index == last).then_some(Value::from(true)));
            target.insert("description", stage.description.clone().map(Value::from));
            target.insert("base", Some(stage.from.node.image.as_str().into()));
            target.insert("platform", stage.from.node.platform.as_ref().map(|word| word.as_str().into()));
            target.insert("location", Some(location(&file.source, stage.from.span)));
            present(target)
        });
        let answer = json!({ "targets": stages.collect::<Vec<_>>(), "sources": [file.source.name()] });
        return Ok(session.console.data(format_args!("{answer}"))?);
    }
    let mut rows = vec![["TARGET", "BASE", "DESCRIPTION"].map(str::to_owned).to_vec()];
    for (index, stage) in file.stages.iter().enumerate() {
        let title = name(index).map_or_else(|| index.to_string(), str::to_owned);
        let title = if index == last { format!("{title} (default)") } else { title };
        let base = stage.from.node.image.as_str().to_owned();
        rows.push(vec![title, base, stage.description.clone().unwrap_or_default()]);
    }
    for line in table::lines(&rows) {
        session.console.data(format_args!("{line}"))?;
    }
    Ok(())
}

/// An argument that the target can be given.
struct Argument<'a> {
    item: &'a ArgItem,
    value: Option<String>,
}

/// What commands of the target want from outside.
#[derive(Default)]
struct Wants {
    /// Ids, and whether the build fails without.
    secrets: BTreeMap<String, bool>,
    ssh: BTreeMap<String, bool>,
    caches: BTreeSet<String>,
}

/// Lists what the target takes: arguments, secrets, agents, caches.
pub(super) fn outline(
    file: &Dockerfile,
    plan: &Plan,
    options: &Options,
    format: Format,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let target = plan.target_stage();
    let stage = &file.stages[target.index];
    let arguments = arguments(file, plan, options);
    let wants = wants(plan);
    if format == Format::Json {
        let argument = |a: &Argument<'_>| {
            let mut object = BTreeMap::new();
            object.insert("name", Some(a.item.name.as_str().into()));
            object.insert("description", a.item.description.clone().map(Value::from));
            object.insert("value", a.value.clone().map(Value::from));
            object.insert("location", Some(location(&file.source, a.item.name.span)));
            present(object)
        };
        let named = |names: &BTreeMap<String, bool>| -> Vec<Value> {
            names.iter().map(|(name, required)| json!({ "name": name, "required": required })).collect()
        };
        let mut answer = BTreeMap::new();
        answer.insert("name", target.name.clone().map(Value::from));
        answer.insert("description", stage.description.clone().map(Value::from));
        answer.insert("args", Some(arguments.iter().map(argument).collect::<Vec<_>>().into()));
        answer.insert("secrets", Some(named(&wants.secrets).into()));
        answer.insert("ssh", Some(named(&wants.ssh).into()));
        let caches = wants.caches.iter().map(|id| json!({ "ID": id }));
        answer.insert("cache", Some(caches.collect::<Vec<_>>().into()));
        answer.insert("sources", Some(json!([file.source.name()])));
        return Ok(session.console.data(format_args!("{}", present(answer)))?);
    }
    let name = target.name.clone().unwrap_or_else(|| target.index.to_string());
    let mut rows = vec![vec!["TARGET".to_owned(), name, stage.description.clone().unwrap_or_default()]];
    let mut section = |heading: &[&str], entries: Vec<Vec<String>>| {
        if !entries.is_empty() {
            rows.push(Vec::new());
            rows.push(heading.iter().map(|&cell| cell.to_owned()).collect());
            rows.extend(entries);
        }
    };
    let required = |names: &BTreeMap<String, bool>| {
        names.iter().map(|(name, r)| vec![name.clone(), if *r { "yes" } else { "no" }.to_owned()]).collect()
    };
    let entries = arguments.iter().map(|a| {
        let description = a.item.description.clone().unwrap_or_default();
        vec![a.item.name.as_str().to_owned(), a.value.clone().unwrap_or_default(), description]
    });
    section(&["ARGUMENT", "VALUE", "DESCRIPTION"], entries.collect());
    section(&["SECRET", "REQUIRED"], required(&wants.secrets));
    section(&["SSH", "REQUIRED"], required(&wants.ssh));
    section(&["CACHE"], wants.caches.iter().map(|id| vec![id.clone()]).collect());
    for line in table::lines(&rows) {
        session.console.data(format_args!("{line}"))?;
    }
    Ok(())
}

/// Every argument of the stages that the target needs, once, with its value or its default as written.
fn arguments<'a>(file: &'a Dockerfile, plan: &Plan, options: &Options) -> Vec<Argument<'a>> {
    let local = plan.stages.iter().flat_map(|stage| &file.stages[stage.index].instructions).flat_map(|statement| {
        match &statement.node {
            Instruction::Arg(arg) => arg.items.as_slice(),
            _ => &[],
        }
    });
    let mut found: Vec<Argument<'a>> = Vec::new();
    for item in file.global_args.iter().flat_map(|arg| &arg.node.items).chain(local) {
        let given = options.build_args.get(item.name.as_str()).cloned();
        let value = given.or_else(|| item.default.as_ref().map(|default| default.as_str().to_owned()));
        match found.iter_mut().find(|known| known.item.name.as_str() == item.name.as_str()) {
            // A stage's `ARG n` takes up the global one; a description or default may be at either place.
            Some(known) if known.value.is_none() || known.item.description.is_none() => {
                let value = known.value.take().or(value);
                let item = if known.item.description.is_some() { known.item } else { item };
                *known = Argument { item, value };
            }
            Some(_) => {}
            None => found.push(Argument { item, value }),
        }
    }
    found
}

fn wants(plan: &Plan) -> Wants {
    let mut wants = Wants::default();
    for step in &plan.steps {
        let StepKind::Run(run) = &step.kind else { continue };
        for mount in &run.mounts {
            match mount {
                Mount::Secret { id, required, .. } => *wants.secrets.entry(id.clone()).or_default() |= required,
                Mount::Ssh { id, required, .. } => *wants.ssh.entry(id.clone()).or_default() |= required,
                Mount::Cache { id, .. } => {
                    wants.caches.insert(id.clone());
                }
                Mount::Bind { .. } | Mount::Tmpfs { .. } => {}
            }
        }
    }
    wants
}

fn location(source: &Source, span: Span) -> Value {
    let place = |at| json!({ "line": source.position(at).line });
    json!({ "ranges": [{ "start": place(span.start), "end": place(span.end) }] })
}

/// An object of the entries that have a value.
fn present(entries: BTreeMap<&str, Option<Value>>) -> Value {
    entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
