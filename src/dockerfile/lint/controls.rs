//! `# check=skip=A,B;error=true;experimental=C` (P-14).

use std::collections::BTreeSet;

use super::rule::{RULES, find};
use crate::dockerfile::ast::{Dockerfile, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::directives::check_comment;
use crate::dockerfile::mount::parse_bool;
use crate::dockerfile::source::Span;
use crate::dockerfile::word::Word;

/// Which warnings the author wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Controls {
    /// Rules that are not reported.
    pub skip: BTreeSet<String>,
    /// Only the requested experimental rules are reported.
    pub skip_all: bool,
    /// Experimental rules that are reported.
    pub experimental: BTreeSet<String>,
    /// All experimental rules are.
    pub experimental_all: bool,
    /// A warning fails the build.
    pub error: bool,
}

impl Controls {
    /// Parses the value of a `check` directive or of `BUILDKIT_DOCKERFILE_CHECK`.
    pub fn parse(value: &Word) -> Result<Self, Vec<Diagnostic>> {
        let mut controls = Self::default();
        let mut problems = Vec::new();
        let mut at = 0;
        // BuildKit splits twice: the third part is the rest.
        for part in value.text.splitn(3, ';') {
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
                "skip" => controls.skip = names().collect(),
                "experimental" if text == "all" => controls.experimental_all = true,
                "experimental" => controls.experimental = names().collect(),
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

    /// The controls of a file; `instead` is `BUILDKIT_DOCKERFILE_CHECK` and replaces the directive.
    pub fn of(file: &Dockerfile, instead: Option<&str>) -> Result<Self, Vec<Diagnostic>> {
        match (instead, &file.directives.check) {
            (Some(text), _) => Self::parse(&Word::new(text, Span::default())),
            (None, Some(value)) => Self::parse(value),
            (None, None) => Ok(Self::default()),
        }
    }

    /// Whether `name` is reported; `own` are the controls of the instruction.
    fn wants(&self, name: &str, own: Option<&Self>) -> bool {
        let any = |holds: fn(&Self, &str) -> bool| holds(self, name) || own.is_some_and(|own| holds(own, name));
        match find(name) {
            Some(rule) if rule.experimental => any(|c, name| c.experimental_all || c.experimental.contains(name)),
            Some(_) => !any(|c, name| c.skip_all || c.skip.contains(name)),
            None => true,
        }
    }
}

/// Rules about the file as a whole or about an image: comments above instructions do not control them, as in BuildKit.
const OF_THE_FILE: [&str; 6] = [
    "NoEmptyContinuation",
    "ConsistentInstructionCasing",
    "DuplicateStageName",
    "ReservedStageName",
    "InvalidDefaultArgInFrom",
    "InvalidBaseImagePlatform",
];

/// Rules whose warning is not at the instruction whose comment controls them, but at an earlier one without effect,
/// or at the comment itself. Their first label is at the instruction.
const ELSEWHERE: [&str; 2] = ["MultipleInstructionsDisallowed", "InvalidDefinitionDescription"];

/// The position of the instruction whose comment controls `warning`.
fn controlled_at(warning: &Diagnostic, code: &str) -> Option<u32> {
    let label = warning.labels.first().filter(|_| ELSEWHERE.contains(&code));
    let reached = warning.source.is_none() && !OF_THE_FILE.contains(&code);
    reached.then(|| label.map_or(warning.span, |label| label.span).start)
}

/// Removes unwanted and repeated warnings; the rest is in the order of the file. Diagnostics without a rule stay.
pub fn filter(file: &Dockerfile, warnings: Vec<Diagnostic>, controls: &Controls) -> Vec<Diagnostic> {
    let owns = owns(file);
    let own = |at: u32| {
        let (span, own) = owns.get(owns.partition_point(|(span, _)| span.start <= at).checked_sub(1)?)?;
        (at <= span.end).then_some(own)
    };
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Diagnostic> = Vec::new();
    for warning in warnings {
        let wanted = warning.code.is_none_or(|code| controls.wants(code, controlled_at(&warning, code).and_then(own)));
        let source = warning.source.as_ref().map(|source| (source.name().to_owned(), source.text().to_owned()));
        if wanted && seen.insert((warning.code, warning.span, warning.message.clone(), source)) {
            kept.push(warning);
        }
    }
    let order = |code: &str| RULES.iter().position(|rule| rule.name == code);
    kept.sort_by_key(|warning| (warning.span.start, warning.code.and_then(order)));
    kept
}

/// The controls in comments above instructions: the first `check=` of each that is valid.
fn owns(file: &Dockerfile) -> Vec<(Span, Controls)> {
    fn add<T>(out: &mut Vec<(Span, Controls)>, statement: &Statement<T>) {
        let first = statement.comments.iter().find_map(check_comment);
        // BuildKit ignores one that is wrong.
        out.extend(first.and_then(|value| Some((statement.span, Controls::parse(&value).ok()?))));
    }
    let mut out = Vec::new();
    file.global_args.iter().for_each(|statement| add(&mut out, statement));
    for stage in &file.stages {
        add(&mut out, &stage.from);
        stage.instructions.iter().for_each(|statement| add(&mut out, statement));
    }
    out
}
