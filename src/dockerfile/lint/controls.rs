//! `# check=skip=A,B;error=true;experimental=C` (P-14).

use std::collections::BTreeSet;

use super::rule::{RULES, find};
use crate::dockerfile::ast::{Dockerfile, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::mount::parse_bool;
use crate::dockerfile::source::Span;
use crate::dockerfile::word::Word;

/// Which warnings an author wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Controls {
    /// Rules that are not reported.
    pub skip: BTreeSet<String>,
    /// No rule is reported, but for the experimental ones that were asked for.
    pub skip_all: bool,
    /// Experimental rules that are reported.
    pub experimental: BTreeSet<String>,
    /// All experimental rules are.
    pub experimental_all: bool,
    /// A warning fails the build.
    pub error: bool,
}

impl Controls {
    /// Reads the value of a `check` directive or of `BUILDKIT_DOCKERFILE_CHECK`.
    pub fn parse(value: &Word) -> Result<Self, Vec<Diagnostic>> {
        let mut controls = Self::default();
        let mut problems = Vec::new();
        let mut at = 0;
        for part in value.text.split(';') {
            let span = value.locate(at..at + part.len());
            at += part.len() + 1;
            if part.trim().is_empty() && value.text.trim().is_empty() {
                continue;
            }
            let Some((key, text)) = part.split_once('=') else {
                let problem = Diagnostic::error(span, format!("check option `{}` has no value", part.trim()));
                problems.push(problem.hint("for example skip=all;error=true"));
                continue;
            };
            let text = text.trim();
            let names = || text.split(',').map(|name| name.trim().to_owned());
            match key.trim() {
                "skip" if text == "all" => controls.skip_all = true,
                "skip" => controls.skip.extend(names()),
                "experimental" if text == "all" => controls.experimental_all = true,
                "experimental" => controls.experimental.extend(names()),
                "error" => match parse_bool(text) {
                    Some(on) => controls.error = on,
                    None => {
                        let message = format!("check option `error` is `{text}`, want true or false");
                        problems.push(Diagnostic::error(span, message));
                    }
                },
                key => {
                    let problem = Diagnostic::error(span, format!("unknown check option `{key}`"));
                    let problem = problem.suggest(key, ["skip", "error", "experimental"]);
                    problems.push(problem.note("known are skip=, error= and experimental="));
                }
            }
        }
        if problems.is_empty() { Ok(controls) } else { Err(problems) }
    }

    /// The controls of a file; `instead` is `BUILDKIT_DOCKERFILE_CHECK` and replaces what the file says.
    pub fn of(file: &Dockerfile, instead: Option<&str>) -> Result<Self, Vec<Diagnostic>> {
        match (instead, &file.directives.check) {
            (Some(text), _) => Self::parse(&Word::new(text, Span::default())),
            (None, Some(value)) => Self::parse(value),
            (None, None) => Ok(Self::default()),
        }
    }

    fn wants(&self, name: &str) -> bool {
        match find(name) {
            Some(rule) if rule.experimental => self.experimental_all || self.experimental.contains(name),
            Some(_) => !self.skip_all && !self.skip.contains(name),
            None => true,
        }
    }
}

/// Takes out the warnings that the author does not want, and those said twice; the rest in the order of the file.
/// Diagnostics that belong to no rule stay.
pub fn filter(file: &Dockerfile, warnings: Vec<Diagnostic>, controls: &Controls) -> Vec<Diagnostic> {
    let skips = skips(file);
    let skipped = |at: u32, code: &str| {
        let (span, names) = skips.get(skips.partition_point(|(span, _)| span.start <= at).checked_sub(1)?)?;
        Some(at <= span.end && (names.contains(code) || names.contains("all")))
    };
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Diagnostic> = Vec::new();
    for warning in warnings {
        let wanted = warning.code.is_none_or(|code| {
            let skipped = warning.source.is_none() && skipped(warning.span.start, code) == Some(true);
            controls.wants(code) && !skipped
        });
        let source = warning.source.as_ref().map(|source| (source.name().to_owned(), source.text().to_owned()));
        if wanted && seen.insert((warning.code, warning.span, warning.message.clone(), source)) {
            kept.push(warning);
        }
    }
    let order = |code: &str| RULES.iter().position(|rule| rule.name == code);
    kept.sort_by_key(|warning| (warning.span.start, warning.code.and_then(order)));
    kept
}

/// The rules that a comment right above an instruction skips for that instruction.
fn skips(file: &Dockerfile) -> Vec<(Span, BTreeSet<&str>)> {
    fn add<'f, T>(out: &mut Vec<(Span, BTreeSet<&'f str>)>, statement: &'f Statement<T>) {
        let names =
            statement.comments.iter().filter_map(skip_comment).flat_map(|names| names.split(',').map(str::trim));
        let names: BTreeSet<&str> = names.collect();
        if !names.is_empty() {
            out.push((statement.span, names));
        }
    }
    let mut out = Vec::new();
    file.global_args.iter().for_each(|statement| add(&mut out, statement));
    for stage in &file.stages {
        add(&mut out, &stage.from);
        stage.instructions.iter().for_each(|statement| add(&mut out, statement));
    }
    out
}

/// The names in a comment `check=skip=A,B`.
pub(super) fn skip_comment(comment: &Word) -> Option<&str> {
    let rest = comment.text.strip_prefix("check")?.trim_start().strip_prefix('=')?;
    rest.split(';').find_map(|part| Some(part.trim().strip_prefix("skip")?.trim_start().strip_prefix('=')?.trim()))
}
