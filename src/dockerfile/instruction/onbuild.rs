//! `ONBUILD`: an instruction kept for later (I-13).

use std::ops::Range;

use super::{Cursor, Parsed, instruction, needs};
use crate::dockerfile::ast::{Instruction, Onbuild, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::line::Line;
use crate::dockerfile::source::offset;
use crate::dockerfile::word::{Word, WordBuilder};

pub(super) fn onbuild(
    line: &Line,
    rest: Range<usize>,
    word: Word,
    mut flags: Flags,
    cursor: &mut Cursor<'_>,
    nested: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<(Parsed, Word)> {
    let before = problems.len();
    flags.check("ONBUILD", &[], problems);
    if nested {
        problems.push(Diagnostic::error(word.span, "ONBUILD ONBUILD is not allowed"));
        return None;
    }
    if rest.is_empty() {
        problems.push(needs(word.span, "ONBUILD", "an instruction").hint("for example ONBUILD COPY . /src"));
        return None;
    }
    let body = cursor.at;
    let (inner, keyword) = instruction(line, rest.clone(), cursor, &[], true, problems)?;
    let inner = match inner {
        Parsed::Other(Instruction::Maintainer(_)) | Parsed::From(_) => {
            let upper = keyword.text.to_ascii_uppercase();
            let message = format!("{upper} is not allowed as an ONBUILD trigger");
            problems.push(Diagnostic::error(keyword.span, message));
            return None;
        }
        Parsed::Other(inner) => inner,
    };
    if problems.len() > before {
        return None;
    }
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
    let trigger = trigger.finish(span);
    Some((Parsed::Other(Instruction::Onbuild(Onbuild { trigger, inner: Box::new(inner) })), word))
}

fn heredocs(instruction: &Instruction) -> Vec<&Heredoc> {
    match instruction {
        Instruction::Run(run) => run.heredocs.iter().collect(),
        Instruction::Copy(copy) | Instruction::Add(copy) => copy.written.iter().collect(),
        _ => Vec::new(),
    }
}
