//! One logical line to one statement.

use std::ops::Range;

use super::args::Args;
use super::cursor::Cursor;
use super::parsed::Parsed;
use super::unknown::unknown;
use super::{bodies, onbuild};
use crate::dockerfile::ast::{Instruction, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::flags;
use crate::dockerfile::keyword::KEYWORDS;
use crate::dockerfile::line::Line;
use crate::dockerfile::source::offset;
use crate::dockerfile::word::Word;
use crate::dockerfile::words::{self, List};

/// Reads one logical line and the heredoc bodies after it. Nothing: a problem was reported.
pub(in crate::dockerfile) fn statement(
    line: &Line,
    cursor: &mut Cursor<'_>,
    comments: Vec<Word>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Statement<Parsed>> {
    let all = line.trim(0..line.text.len());
    let start = cursor.at;
    let (node, keyword) = instruction(line, all.clone(), cursor, &comments, false, problems)?;
    let mut span = line.span(all.clone());
    if cursor.at > start {
        span.end = offset(start + cursor.text[start..cursor.at].trim_end_matches(['\n', '\r']).len());
    }
    Some(Statement { node, span, keyword, text: line.text[all].to_owned(), comments, blank_line: line.blank_line })
}

fn instruction(
    line: &Line,
    all: Range<usize>,
    cursor: &mut Cursor<'_>,
    comments: &[Word],
    trigger: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<(Parsed, Word)> {
    let text = &line.text[all.clone()];
    let length = text.find(words::BLANKS).unwrap_or(text.len());
    let word = line.word(all.start..all.start + length);
    let Some((keyword, known)) = KEYWORDS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&word.text)) else {
        problems.push(unknown(line, &word, cursor.text, cursor.escape.char()));
        return None;
    };
    let before = problems.len();
    let (flags, start) = flags::read(line, all.start + length..all.end, problems);
    let rest = line.trim(start..all.end);
    if keyword == "ONBUILD" {
        onbuild::check(&word, rest.is_empty(), flags, trigger, problems)?;
        let body = cursor.at;
        let (inner, inner_keyword) = instruction(line, rest.clone(), cursor, &[], true, problems)?;
        let inner = onbuild::trigger(inner, &inner_keyword, problems)?;
        if problems.len() > before {
            return None;
        }
        let onbuild = onbuild::onbuild(line, rest, inner, inner_keyword, cursor, body);
        return Some((Parsed::Other(Instruction::Onbuild(onbuild)), word));
    }
    let reads = matches!(keyword, "RUN" | "COPY" | "ADD");
    let json = if reads { words::json(line, rest.clone()) } else { List::Not };
    let heredocs = match json {
        List::Not if reads => bodies::read(line, all.start + length..all.end, cursor, problems)?,
        _ => Vec::new(),
    };
    if problems.len() > before {
        return None;
    }
    let keyword_span = word.span;
    let escape = cursor.escape.char();
    let mut args = Args { keyword, keyword_span, line, rest, flags, heredocs, comments, escape, problems };
    match args.is_health_none() {
        true => args.flags.check_names(keyword, known, args.problems),
        false => args.flags.check(keyword, known, args.problems),
    }
    let parsed = args.parse(json);
    if problems.len() > before {
        return None;
    }
    parsed.map(|parsed| (parsed, word))
}

impl Args<'_> {
    fn parse(&mut self, json: List) -> Option<Parsed> {
        let list = |args: &Self| words::json(args.line, args.rest.clone());
        Some(Parsed::Other(match self.keyword {
            "FROM" => return self.from().map(Parsed::From),
            "RUN" => Instruction::Run(Box::new(self.run(json)?)),
            "COPY" => Instruction::Copy(Box::new(self.copy(json)?)),
            "ADD" => Instruction::Add(Box::new(self.copy(json)?)),
            "ARG" => Instruction::Arg(self.arg()?),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "CMD" => Instruction::Cmd(self.command(list(self), self.rest.clone())?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(list(self), self.rest.clone())?),
            "SHELL" => Instruction::Shell(self.shell()?),
            "EXPOSE" => Instruction::Expose(self.expose()?),
            "VOLUME" => Instruction::Volume(self.volume()?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            "MAINTAINER" => Instruction::Maintainer(self.one()?),
            "STOPSIGNAL" => Instruction::StopSignal(self.one()?),
            "USER" => Instruction::User(self.one()?),
            _ => Instruction::Workdir(self.one()?),
        }))
    }
}
