//! Printing items with a template of the user's.

use serde_json::Value;

use crate::ui::sanitize;
use crate::ui::template::{Template, TemplateError};

use super::failure::Failure;
use super::session::Session;
use super::table;

/// Prints one line per item; after `table `, in columns below `headings`, an item whose fields are their names.
pub(super) fn print(
    template: &str,
    headings: &Value,
    items: impl IntoIterator<Item = Value>,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let (table, text) = match template.strip_prefix("table ") {
        Some(text) => (true, text),
        None => (false, template),
    };
    let template = Template::parse(text)?;
    let mut lines = Vec::new();
    if table {
        lines.push(template.render(headings)?);
    }
    for item in items {
        lines.push(template.render(&item)?);
    }
    if table {
        let rows: Vec<Vec<String>> = lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
        lines = table::lines(&rows);
    }
    for line in lines {
        session.console.data(format_args!("{}", sanitize::text(&line)))?;
    }
    Ok(())
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::usage(format!("--format: {error}"))
    }
}
