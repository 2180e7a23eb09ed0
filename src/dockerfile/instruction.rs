//! One logical line to one typed instruction.

use std::ops::Range;
use std::time::Duration;

use super::ast::{
    Arg, ArgItem, Command, Copy, CopySource, Escape, From, HealthTest, Healthcheck, Instruction, Network, Onbuild,
    Pairs, Run, Security, Statement, Volume,
};
use super::diagnostic::Diagnostic;
use super::duration;
use super::flags::{self, Flags, Kind, Known};
use super::heredoc::{self, Heredoc};
use super::line::{Line, physical};
use super::mount::{Device, Mount, keyword};
use super::source::{Span, Spanned, offset};
use super::word::{Word, WordBuilder};
use super::words::{self, List};

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

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

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
    let upper = word.text.to_ascii_uppercase();
    let Some(keyword) = KEYWORDS.into_iter().find(|known| *known == upper) else {
        problems.push(unknown(line, &word, &upper));
        return None;
    };
    let (flags, start) = flags::read(line, all.start + length..all.end, problems);
    let rest = line.trim(start..all.end);
    if keyword == "ONBUILD" {
        return onbuild(line, rest, word, flags, cursor, trigger, problems);
    }
    let is_list = matches!(keyword, "RUN" | "COPY" | "ADD");
    let json = if is_list { Some(words::json(line, rest.clone())) } else { None };
    let mut heredocs = Vec::new();
    if is_list && !matches!(json, Some(List::Strings(_))) {
        for opening in heredoc::openings(line, all.start + length..all.end) {
            let (name, span) = (opening.name.clone(), opening.span);
            let body = cursor.at;
            match heredoc::read_body(cursor.text, body, opening) {
                Ok((heredoc, next)) => {
                    cursor.at = next;
                    heredocs.push(heredoc);
                }
                Err(opening) => {
                    cursor.at = cursor.text.len();
                    problems.push(unterminated(cursor.text, body, &name, opening.chomp, span));
                    return None;
                }
            }
            check_lengths(cursor, body, problems);
        }
    }
    let keyword_span = word.span;
    let escape = cursor.escape.char();
    let mut args = Args { keyword, keyword_span, line, rest, flags, heredocs, comments, escape, problems };
    let before = args.problems.len();
    let parsed = args.parse(json);
    if args.problems.len() > before {
        return None;
    }
    parsed.map(|parsed| (parsed, word))
}

fn check_lengths(cursor: &Cursor<'_>, from: usize, problems: &mut Vec<Diagnostic>) {
    let mut at = from;
    while let Some(line) = physical(cursor.text, at).filter(|line| cursor.limited && line.start < cursor.at) {
        if line.is_too_long() {
            problems.push(super::parse::too_long(line.span()));
        }
        at = line.next;
    }
}

fn unknown(line: &Line, word: &Word, upper: &str) -> Diagnostic {
    let shown: String = word.text.chars().take(40).collect();
    let problem = Diagnostic::error(word.span, format!("unknown instruction: {shown}"));
    if line.text.contains("<<") || word.text.starts_with("<<") {
        return problem.note("a heredoc may follow RUN, COPY and ADD only");
    }
    problem.suggest(upper, KEYWORDS)
}

fn unterminated(text: &str, body: usize, name: &str, chomp: bool, span: Span) -> Diagnostic {
    let problem = Diagnostic::error(span, format!("unterminated heredoc: no line is exactly `{name}`"));
    let near = text[body..].lines().find(|line| line.trim() == name && *line != name);
    match near {
        Some(line) if !chomp && line.trim_start_matches('\t') == name => {
            problem.hint(format!("a line with tabs before `{name}` was found; <<- takes tabs away"))
        }
        Some(_) => {
            problem.hint(format!("a line with blanks around `{name}` was found; the delimiter must stand alone"))
        }
        None => problem.hint(format!("end the text with a line that holds only `{name}`")),
    }
}

fn onbuild(
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
        problems.push(needs(word.span, "ONBUILD", "at least one argument").hint("for example ONBUILD COPY . /src"));
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

fn needs(span: Span, keyword: &str, what: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{keyword} requires {what}"))
}

/// The doc comment for `name`: the first comment line that starts with it (P-20).
pub(super) fn description(comments: &[Word], name: &str) -> Option<String> {
    let found = comments.iter().find_map(|line| line.text.strip_prefix(name)?.strip_prefix(' '))?;
    Some(found.to_owned())
}

const RUN_FLAGS: [Known; 4] =
    [("mount", Kind::List), ("network", Kind::Text), ("security", Kind::Text), ("device", Kind::List)];
const COPY_FLAGS: [Known; 6] = [
    ("from", Kind::Text),
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Bool),
    ("parents", Kind::Bool),
    ("exclude", Kind::List),
];
const ADD_FLAGS: [Known; 7] = [
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Bool),
    ("keep-git-dir", Kind::Bool),
    ("checksum", Kind::Text),
    ("unpack", Kind::Bool),
    ("exclude", Kind::List),
];
const HEALTHCHECK_FLAGS: [Known; 5] = [
    ("interval", Kind::Text),
    ("timeout", Kind::Text),
    ("start-period", Kind::Text),
    ("start-interval", Kind::Text),
    ("retries", Kind::Text),
];
const NETWORKS: [(&str, Network); 3] =
    [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
const SECURITIES: [(&str, Security); 2] = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];

impl Args<'_> {
    fn parse(&mut self, json: Option<List>) -> Option<Parsed> {
        let known: &[Known] = match self.keyword {
            "RUN" => &RUN_FLAGS,
            "COPY" => &COPY_FLAGS,
            "ADD" => &ADD_FLAGS,
            "FROM" => &[("platform", Kind::Text)],
            "HEALTHCHECK" => &HEALTHCHECK_FLAGS,
            _ => &[],
        };
        self.flags.check(self.keyword, known, self.problems);
        Some(Parsed::Other(match self.keyword {
            "FROM" => return self.from().map(Parsed::From),
            "RUN" => Instruction::Run(self.run(json?)?),
            "COPY" => Instruction::Copy(self.copy(json?)?),
            "ADD" => Instruction::Add(self.copy(json?)?),
            "ARG" => Instruction::Arg(self.arg()?),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "CMD" => Instruction::Cmd(self.command(self.rest.clone())?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(self.rest.clone())?),
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

    fn mixed(&mut self) {
        let problem = Diagnostic::error(self.args_span(), "the JSON list holds something that is not a string");
        self.report(problem.hint("put every element in double quotes"));
    }

    /// The rest of the line as one argument.
    fn one(&mut self) -> Option<Word> {
        if self.rest.is_empty() {
            self.report(needs(self.keyword_span, self.keyword, "exactly one argument"));
            return None;
        }
        Some(self.line.word(self.rest.clone()))
    }

    fn from(&mut self) -> Option<From> {
        let ranges = words::split(self.line, self.rest.clone());
        let mut found = ranges.iter().map(|range| self.line.word(range.clone()));
        let platform = self.flags.text("platform");
        let image = match found.next() {
            Some(image) => image,
            None => {
                let problem = needs(self.keyword_span, "FROM", "an image, a stage or scratch");
                self.report(problem.hint("for example FROM debian:12 AS build"));
                return None;
            }
        };
        let (as_keyword, alias) = (found.next(), found.next());
        let (Some(as_keyword), Some(alias)) = (&as_keyword, &alias) else {
            if let Some(extra) = as_keyword {
                let problem = Diagnostic::error(extra.span, "FROM takes an image, or an image AS name");
                let is_as = extra.text.eq_ignore_ascii_case("as");
                self.report(if is_as { problem.hint("a stage name must follow AS") } else { problem });
                return None;
            }
            return Some(From { image, platform, as_keyword, alias });
        };
        if ranges.len() > 3 || !as_keyword.text.eq_ignore_ascii_case("as") {
            let end = ranges.last().map_or(self.rest.end, |range| range.end);
            let start = if as_keyword.text.eq_ignore_ascii_case("as") { ranges[3].start } else { ranges[1].start };
            let problem = Diagnostic::error(self.line.span(start..end), "FROM takes an image, or an image AS name");
            self.report(problem);
            return None;
        }
        let lower = alias.text.to_lowercase();
        let head = lower.starts_with(|c: char| c.is_ascii_lowercase());
        if !head || !lower.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.')) {
            let message = format!("invalid stage name `{}`", alias.text);
            self.report(
                Diagnostic::error(alias.span, message)
                    .hint("a stage name starts with a letter and holds letters, digits, `-`, `_` and `.`"),
            );
            return None;
        }
        let (as_keyword, alias) = (Some(as_keyword.clone()), Some(alias.clone()));
        Some(From { image, platform, as_keyword, alias })
    }

    fn command(&mut self, range: Range<usize>) -> Option<Command> {
        match words::json(self.line, range.clone()) {
            List::Strings(words) => Some(Command::Exec(words)),
            List::Not => Some(Command::Shell(self.line.word(range))),
            List::Mixed => {
                self.mixed();
                None
            }
        }
    }

    fn run(&mut self, json: List) -> Option<Run> {
        let mounts = self.flags.list("mount");
        let mounts = mounts.iter().filter_map(|value| Mount::parse(value, self.problems)).collect();
        let devices = self.flags.list("device");
        let devices = devices.iter().filter_map(|value| Device::parse(value, self.problems)).collect();
        let network = self.flags.text("network");
        let network = network.and_then(|value| keyword("network", &value, &NETWORKS, self.problems));
        let security = self.flags.text("security");
        let security = security.and_then(|value| keyword("security", &value, &SECURITIES, self.problems));
        let command = match json {
            List::Strings(words) => Command::Exec(words),
            List::Not => Command::Shell(self.line.word(self.rest.clone())),
            List::Mixed => {
                self.mixed();
                return None;
            }
        };
        let empty = match &command {
            Command::Exec(words) => words.is_empty(),
            Command::Shell(line) => line.text.is_empty(),
        };
        if empty {
            self.report(needs(self.args_span(), "RUN", "a command"));
            return None;
        }
        let heredocs = std::mem::take(&mut self.heredocs);
        Some(Run { mounts, network, security, devices, command, heredocs })
    }

    fn copy(&mut self, json: List) -> Option<Copy> {
        let (found, json) = match json {
            List::Strings(found) => (found, true),
            List::Mixed => {
                self.mixed();
                return None;
            }
            List::Not => {
                let ranges = words::split(self.line, self.rest.clone());
                (ranges.into_iter().map(|range| self.line.word(range)).collect(), false)
            }
        };
        let mut found: Vec<Word> = found;
        if found.len() < 2 {
            let message = match found.len() {
                0 => format!("{} requires at least two arguments", self.keyword),
                _ => format!("{} requires at least two arguments, but only one was given", self.keyword),
            };
            let problem = Diagnostic::error(self.args_span(), message);
            self.report(problem.hint("name the sources first and the destination last"));
            return None;
        }
        let dest = found.pop()?;
        let mut sources = Vec::new();
        for word in found {
            match heredoc::parse_word(&word.text).filter(|_| !json) {
                // Of two bodies with one name the later serves both (P-19).
                Some(opening) => match self.heredocs.iter().rfind(|doc| doc.name == opening.name) {
                    Some(doc) => {
                        let heredoc::Opening { name, fd, chomp, expand, .. } = opening;
                        let raw = doc.raw.clone();
                        sources.push(CopySource::Heredoc(Heredoc { name, span: word.span, fd, chomp, expand, raw }));
                    }
                    None => sources.push(CopySource::Path(word)),
                },
                None => sources.push(CopySource::Path(word)),
            }
        }
        if heredoc::parse_word(&dest.text).is_some() && !json {
            let message = format!("{} cannot take a heredoc as its destination", self.keyword);
            self.report(Diagnostic::error(dest.span, message).hint("the destination comes last"));
            return None;
        }
        let in_sources = |doc: &Heredoc| {
            sources.iter().any(|source| matches!(source, CopySource::Heredoc(own) if own.name == doc.name))
        };
        if let Some(doc) = self.heredocs.iter().find(|doc| !in_sources(doc)) {
            let message = format!("this heredoc is no source of the {}", self.keyword);
            let problem = Diagnostic::error(doc.span, message);
            self.report(problem.hint("write <<NAME without blanks, followed by the destination"));
            return None;
        }
        Some(Copy {
            from: self.flags.text("from"),
            chown: self.flags.text("chown"),
            chmod: self.flags.text("chmod"),
            link: self.flags.bool("link"),
            parents: self.flags.bool("parents"),
            exclude: self.flags.list("exclude"),
            checksum: self.flags.text("checksum"),
            keep_git_dir: self.flags.bool("keep-git-dir"),
            unpack: self.flags.bool("unpack"),
            sources,
            dest,
            json,
            written: std::mem::take(&mut self.heredocs),
        })
    }

    fn arg(&mut self) -> Option<Arg> {
        let ranges = words::quoted(self.line, self.rest.clone(), self.escape);
        if ranges.is_empty() {
            self.report(needs(self.keyword_span, "ARG", "at least one name"));
            return None;
        }
        let mut items = Vec::new();
        for range in ranges {
            let text = &self.line.text[range.clone()];
            let eq = text.find('=').map(|eq| range.start + eq);
            let name = self.line.word(range.start..eq.unwrap_or(range.end));
            let default = eq.map(|eq| self.line.word(eq + 1..range.end));
            if name.text.is_empty() {
                let problem = Diagnostic::error(self.line.span(range), "ARG names cannot be empty");
                self.report(problem.hint("write NAME=value without blanks around ="));
                continue;
            }
            let description = description(self.comments, &name.text);
            items.push(ArgItem { name, default, description });
        }
        Some(Arg { items })
    }

    fn pairs(&mut self) -> Option<Pairs> {
        let ranges = words::quoted(self.line, self.rest.clone(), self.escape);
        let Some(first) = ranges.first() else {
            self.report(needs(self.keyword_span, self.keyword, "at least one argument"));
            return None;
        };
        if !self.line.text[first.clone()].contains('=') {
            return self.legacy_pair();
        }
        let mut pairs = Vec::new();
        for range in ranges {
            match self.line.text[range.clone()].find('=') {
                None => {
                    let word = &self.line.text[range.clone()];
                    let message = format!("`{}` has no =, want name=value", word.chars().take(60).collect::<String>());
                    let problem = Diagnostic::error(self.line.span(range), message);
                    self.report(problem.hint("put a value with blanks in quotes"));
                }
                Some(0) => {
                    let message = format!("{} names cannot be empty", self.keyword);
                    let problem = Diagnostic::error(self.line.span(range), message);
                    self.report(problem.hint("write name=value without blanks around ="));
                }
                Some(eq) => {
                    let eq = range.start + eq;
                    pairs.push((self.line.word(range.start..eq), self.line.word(eq + 1..range.end)));
                }
            }
        }
        Some(Pairs { pairs, legacy: false })
    }

    /// `KEY the rest of the line`.
    fn legacy_pair(&mut self) -> Option<Pairs> {
        let text = &self.line.text[self.rest.clone()];
        let Some(end) = text.find(words::BLANKS) else {
            let message = format!("{} must have two arguments", self.keyword);
            let problem = Diagnostic::error(self.args_span(), message);
            self.report(problem.hint(format!("write {} name=value", self.keyword)));
            return None;
        };
        let after = text.len() - text[end..].trim_start_matches(words::BLANKS).len();
        let start = self.rest.start;
        let pair = (self.line.word(start..start + end), self.line.word(start + after..self.rest.end));
        Some(Pairs { pairs: vec![pair], legacy: true })
    }

    fn shell(&mut self) -> Option<Vec<Word>> {
        match words::json(self.line, self.rest.clone()) {
            List::Strings(words) if !words.is_empty() => Some(words),
            List::Mixed => {
                self.mixed();
                None
            }
            List::Strings(_) => {
                self.report(needs(self.args_span(), "SHELL", "at least one argument"));
                None
            }
            List::Not if self.rest.is_empty() => {
                self.report(needs(self.keyword_span, "SHELL", "at least one argument"));
                None
            }
            List::Not => {
                let problem = Diagnostic::error(self.args_span(), "SHELL requires its arguments as a JSON list");
                self.report(problem.hint("for example SHELL [\"/bin/bash\", \"-c\"]"));
                None
            }
        }
    }

    fn expose(&mut self) -> Option<Vec<Word>> {
        let ranges = words::split(self.line, self.rest.clone());
        if ranges.is_empty() {
            self.report(needs(self.keyword_span, "EXPOSE", "at least one port"));
            return None;
        }
        Some(ranges.into_iter().map(|range| self.line.word(range)).collect())
    }

    fn volume(&mut self) -> Option<Volume> {
        let (paths, json) = match words::json(self.line, self.rest.clone()) {
            List::Strings(words) => (words, true),
            List::Mixed => {
                self.mixed();
                return None;
            }
            List::Not => {
                let ranges = words::split(self.line, self.rest.clone());
                (ranges.into_iter().map(|range| self.line.word(range)).collect(), false)
            }
        };
        if paths.is_empty() {
            self.report(needs(self.args_span(), "VOLUME", "at least one path"));
            return None;
        }
        let mut trimmed = Vec::new();
        for path in paths {
            let text = path.text.trim();
            if text.is_empty() {
                self.report(Diagnostic::error(path.span, "a VOLUME path cannot be empty"));
                continue;
            }
            let start = path.text.len() - path.text.trim_start().len();
            let range = start..start + text.len();
            trimmed.push(if text.len() == path.text.len() { path } else { path.part(range) });
        }
        Some(Volume { paths: trimmed, json })
    }

    fn healthcheck(&mut self) -> Option<Healthcheck> {
        let text = &self.line.text[self.rest.clone()];
        let length = text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = self.line.word(self.rest.start..self.rest.start + length);
        let command = self.line.trim(self.rest.start + length..self.rest.end);
        match kind.text.to_ascii_uppercase().as_str() {
            "" => {
                let problem = needs(self.keyword_span, "HEALTHCHECK", "at least one argument");
                self.report(problem.hint("write HEALTHCHECK CMD command, or HEALTHCHECK NONE"));
                None
            }
            "NONE" if command.is_empty() => Some(Healthcheck::None),
            "NONE" => {
                self.report(Diagnostic::error(self.line.span(command), "HEALTHCHECK NONE takes no arguments"));
                None
            }
            "CMD" => {
                let command = self.command(command)?;
                let empty = match &command {
                    Command::Exec(words) => words.is_empty(),
                    Command::Shell(line) => line.text.is_empty(),
                };
                if empty {
                    self.report(Diagnostic::error(self.args_span(), "missing command after HEALTHCHECK CMD"));
                    return None;
                }
                Some(Healthcheck::Test(Box::new(HealthTest {
                    command,
                    interval: self.interval("interval"),
                    timeout: self.interval("timeout"),
                    start_period: self.interval("start-period"),
                    start_interval: self.interval("start-interval"),
                    retries: self.retries(),
                })))
            }
            upper => {
                let message = format!("unknown type `{}` of HEALTHCHECK, want CMD or NONE", kind.text);
                let problem = Diagnostic::error(kind.span, message).suggest(upper, ["CMD", "NONE"]);
                self.report(if problem.hints.is_empty() {
                    problem.hint("write CMD before the command")
                } else {
                    problem
                });
                None
            }
        }
    }

    /// A duration of zero or at least a millisecond.
    fn interval(&mut self, name: &str) -> Option<Spanned<Duration>> {
        const LEAST: i128 = 1_000_000;
        let value = self.flags.text(name)?;
        let Some(nanos) = duration::parse(&value.text) else {
            let message = format!("flag --{name} is `{}`, want a duration", value.text);
            self.report(Diagnostic::error(value.span, message).hint("for example 30s, 1m30s or 500ms"));
            return None;
        };
        if nanos != 0 && nanos < LEAST {
            let message = format!("flag --{name} is `{}`, want 0 or at least 1ms", value.text);
            self.report(Diagnostic::error(value.span, message));
            return None;
        }
        Some(Spanned::new(Duration::from_nanos(u64::try_from(nanos).ok()?), value.span))
    }

    fn retries(&mut self) -> Option<Spanned<u32>> {
        let value = self.flags.text("retries")?;
        match value.text.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()) {
            Some(n) => Some(Spanned::new(n, value.span)),
            None => {
                let message = format!("flag --retries is `{}`, want a number from 0", value.text);
                self.report(Diagnostic::error(value.span, message));
                None
            }
        }
    }
}
