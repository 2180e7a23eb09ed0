//! One logical line to one typed instruction.
//!
//! **Order.** The keyword, its flags (`keyword` knows them), heredoc bodies (`bodies`), arguments: `stage`, `files`,
//! `pairs`, `lists`, `health`, `onbuild`.

mod bodies;
mod files;
mod health;
mod keyword;
mod lists;
mod onbuild;
mod pairs;
mod stage;

use std::ops::Range;

use super::ast::{Command, Escape, From, Instruction, Statement};
use super::diagnostic::Diagnostic;
use super::flags::{self, Flags};
use super::heredoc::Heredoc;
use super::line::Line;
use super::source::{Span, offset};
use super::word::Word;
use super::words::{self, List};

pub(super) use keyword::{is_keyword, owner};

use keyword::KEYWORDS;

/// An instruction, or the `FROM` that opens a stage.
#[derive(Debug)]
pub(super) enum Parsed {
    From(From),
    Other(Instruction),
}

/// Where the lines after the current one start: heredoc bodies are read from there.
#[derive(Debug)]
pub(super) struct Cursor<'s> {
    pub(super) text: &'s str,
    pub(super) at: usize,
    pub(super) limited: bool,
    pub(super) escape: Escape,
}

/// The arguments of one instruction while they are read.
struct Args<'a> {
    keyword: &'static str,
    keyword_span: Span,
    line: &'a Line,
    /// What follows the flags, trimmed.
    rest: Range<usize>,
    flags: Flags,
    heredocs: Vec<Heredoc>,
    comments: &'a [Word],
    escape: char,
    problems: &'a mut Vec<Diagnostic>,
}

/// Reads one logical line and the heredoc bodies behind it. Nothing: a problem was reported.
pub(super) fn statement(
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
        problems.push(keyword::unknown(line, &word, cursor.text, cursor.escape.char()));
        return None;
    };
    let before = problems.len();
    let (flags, start) = flags::read(line, all.start + length..all.end, problems);
    let rest = line.trim(start..all.end);
    if keyword == "ONBUILD" {
        return onbuild::onbuild(line, rest, word, flags, cursor, trigger, problems);
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

/// Whether a `${` in `text` is not closed: a blank ended the word too early.
fn is_open(text: &str) -> bool {
    text.matches("${").count() > text.matches('}').count()
}

fn needs(span: Span, keyword: &str, what: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{keyword} requires {what}"))
}

/// The doc comment for `name`: the first comment line that starts with it (P-20).
pub(super) fn description(comments: &[Word], name: &str) -> Option<String> {
    let found = comments.iter().find_map(|line| line.text.strip_prefix(name)?.strip_prefix(' '))?;
    Some(found.to_owned())
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

    fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Where to point when the arguments as a whole are wrong.
    fn args_span(&self) -> Span {
        if self.rest.is_empty() { self.keyword_span } else { self.line.span(self.rest.clone()) }
    }

    /// The rest of the line as one argument.
    fn one(&mut self) -> Option<Word> {
        if self.rest.is_empty() {
            self.report(needs(self.keyword_span, self.keyword, "exactly one argument"));
            return None;
        }
        Some(self.line.word(self.rest.clone()))
    }

    /// `range` as a command; `json` is what it is as a list.
    fn command(&mut self, json: List, range: Range<usize>) -> Option<Command> {
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
