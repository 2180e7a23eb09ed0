//! `--outline` and `--targets`: arguments and stages of a Dockerfile (P-20), as JSON or as a table.

use serde::Serialize;

use crate::dockerfile::Dockerfile;
use crate::plan::outline::{self, Outline, OutlineInput};

use super::args::Format;
use super::failure::Failure;
use super::session::Session;
use super::table;

/// Lists the stages.
pub(super) fn targets(file: &Dockerfile, format: Format, session: &mut Session<'_>) -> Result<(), Failure> {
    let targets = outline::targets(file);
    let mut rows = vec![row(["TARGET", "BASE", "PLATFORM", "DESCRIPTION"])];
    for (index, target) in targets.targets.iter().enumerate() {
        let name = target.name.clone().unwrap_or_else(|| index.to_string());
        let name = if target.default { name + " (default)" } else { name };
        rows.push(row([&name, &target.base, or_empty(&target.platform), or_empty(&target.description)]));
    }
    print(&targets, &rows, format, session)
}

/// Lists arguments, secrets, agents and caches of the target.
pub(super) fn outline(outline: &Outline, format: Format, session: &mut Session<'_>) -> Result<(), Failure> {
    let name = outline.name.as_deref().unwrap_or("default");
    let mut rows = vec![row(["TARGET", name, or_empty(&outline.description)])];
    let mut section = |heading: Vec<String>, entries: Vec<Vec<String>>| {
        if !entries.is_empty() {
            rows.push(Vec::new());
            rows.push(heading);
            rows.extend(entries);
        }
    };
    let inputs = |inputs: &[OutlineInput]| {
        inputs.iter().map(|i| row([i.name.as_str(), if i.required { "yes" } else { "no" }])).collect()
    };
    let args = outline.args.iter().map(|arg| row([&arg.name, or_empty(&arg.value), or_empty(&arg.description)]));
    section(row(["ARGUMENT", "VALUE", "DESCRIPTION"]), args.collect());
    section(row(["SECRET", "REQUIRED"]), inputs(&outline.secrets));
    section(row(["SSH", "REQUIRED"]), inputs(&outline.ssh));
    section(row(["CACHE"]), outline.cache.iter().map(|cache| row([&cache.id])).collect());
    print(outline, &rows, format, session)
}

fn row<const N: usize>(cells: [impl AsRef<str>; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.as_ref().to_owned()).collect()
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

fn print(
    answer: &impl Serialize,
    rows: &[Vec<String>],
    format: Format,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    if format == Format::Json {
        return Ok(session.console.data(format_args!("{}", serde_json::json!(answer)))?);
    }
    for line in table::lines(rows) {
        session.console.data(format_args!("{line}"))?;
    }
    Ok(())
}
