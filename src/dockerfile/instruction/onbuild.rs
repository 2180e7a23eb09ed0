//! `ONBUILD`: an instruction that the image keeps for the builds that use it as base (I-13).

use std::ops::Range;

use super::args::needs;
use super::cursor::Cursor;
use super::parsed::Parsed;
use crate::dockerfile::ast::{Instruction, Onbuild, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::line::Line;
use crate::dockerfile::source::offset;
use crate::dockerfile::word::{Word, WordBuilder};

/// Checks what is known before the trigger is read. Nothing: a problem was reported.
pub(super) fn check(
    keyword: &Word,
    empty: bool,
    mut flags: Flags,
    nested: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<()> {
    flags.check("ONBUILD", &[], problems);
    if nested {
        problems.push(Diagnostic::error(keyword.span, "ONBUILD ONBUILD is not allowed"));
        return None;
    }
    if empty {
        problems.push(needs(keyword.span, "ONBUILD", "an instruction").hint("for example ONBUILD COPY . /src"));
        return None;
    }
    Some(())
}

/// The instruction, if it may be a trigger.
pub(super) fn trigger(inner: Parsed, keyword: &Word, problems: &mut Vec<Diagnostic>) -> Option<Instruction> {
    match inner {
        Parsed::Other(Instruction::Maintainer(_)) | Parsed::From(_) => {
            let upper = keyword.text.to_ascii_uppercase();
            let message = format!("{upper} is not allowed as an ONBUILD trigger");
            problems.push(Diagnostic::error(keyword.span, message));
            None
        }
        Parsed::Other(inner) => Some(inner),
    }
}

/// The whole instruction: `rest` is the trigger on `line`, and the bodies of its heredocs start at `body`.
pub(super) fn onbuild(
    line: &Line,
    rest: Range<usize>,
    inner: Instruction,
    keyword: Word,
    cursor: &Cursor<'_>,
    body: usize,
) -> Onbuild {
    let first = line.word(rest.clone());
    let mut trigger = WordBuilder::default();
    for (i, c) in first.text.char_indices() {
        trigger.push_char(c, line.locate(rest.start + i));
    }
    let mut span = first.span;
    for heredoc in heredocs(&inner) {
        trigger.push("\n", heredoc.raw.span.start);
        trigger.push(&heredoc.raw.text, heredoc.raw.span.start);
        trigger.push(&heredoc.name, heredoc.raw.span.end);
    }
    if cursor.at > body {
        span.end = offset(body + cursor.text[body..cursor.at].trim_end_matches(['\n', '\r']).len());
    }
    let text = line.text[rest].to_owned();
    let inner = Statement { node: inner, span, keyword, text, comments: Vec::new(), blank_line: None };
    Onbuild { trigger: trigger.finish(span), inner: Box::new(inner) }
}

fn heredocs(instruction: &Instruction) -> Vec<&Heredoc> {
    match instruction {
        Instruction::Run(run) => run.heredocs.iter().collect(),
        Instruction::Copy(copy) | Instruction::Add(copy) => copy.written.iter().collect(),
        _ => Vec::new(),
    }
}
