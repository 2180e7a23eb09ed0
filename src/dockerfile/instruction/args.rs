//! The arguments of one instruction, and what the readers of its parts share.

use std::ops::Range;

use crate::dockerfile::ast::Command;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::line::Line;
use crate::dockerfile::source::Span;
use crate::dockerfile::word::Word;
use crate::dockerfile::words::List;

/// One instruction while its arguments are read.
pub(super) struct Args<'a> {
    pub(super) keyword: &'static str,
    pub(super) keyword_span: Span,
    pub(super) line: &'a Line,
    /// The text after the flags, trimmed.
    pub(super) rest: Range<usize>,
    pub(super) flags: Flags,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) comments: &'a [Word],
    pub(super) escape: char,
    pub(super) problems: &'a mut Vec<Diagnostic>,
}

impl Args<'_> {
    /// Adds a problem.
    pub(super) fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Where to point when the arguments as a whole are wrong.
    pub(super) fn args_span(&self) -> Span {
        if self.rest.is_empty() { self.keyword_span } else { self.line.span(self.rest.clone()) }
    }

    /// The rest of the line as one argument.
    pub(super) fn one(&mut self) -> Option<Word> {
        if self.rest.is_empty() {
            self.report(needs(self.keyword_span, self.keyword, "exactly one argument"));
            return None;
        }
        Some(self.line.word(self.rest.clone()))
    }

    /// `range` as a command; `json` is the same text read as a list.
    pub(super) fn command(&mut self, json: List, range: Range<usize>) -> Option<Command> {
        match json {
            List::Strings(words) => Some(Command::Exec(words)),
            List::Not => Some(Command::Shell(self.line.word(range))),
            List::Mixed(mixed) => {
                self.report(mixed);
                None
            }
        }
    }
}

/// Whether `text` has an unclosed `${`: a blank ended the word too early.
pub(super) fn is_open(text: &str) -> bool {
    text.matches("${").count() > text.matches('}').count()
}

/// `KEYWORD requires …`.
pub(super) fn needs(span: Span, keyword: &str, what: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{keyword} requires {what}"))
}

/// The doc comment for `name`: the first comment line that starts with it (P-20).
pub(in crate::dockerfile) fn description(comments: &[Word], name: &str) -> Option<String> {
    let found = comments.iter().find_map(|line| line.text.strip_prefix(name)?.strip_prefix(' '))?;
    Some(found.to_owned())
}
