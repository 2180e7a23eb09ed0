//! Text to [`Dockerfile`]: one pass over the lines that reports all problems.

use super::ast::{Dockerfile, Escape, From, Instruction, Stage, Statement};
use super::diagnostic::Diagnostic;
use super::directives;
use super::instruction::{self, Parsed};
use super::keyword::is_keyword;
use super::line::{Line, Physical, continued, physical, too_long};
use super::lint::Controls;
use super::source::{Source, Span, Spanned};
use super::word::Word;

/// The maximum size of a file in bytes; spans have 32 bits.
const MAX_FILE: usize = 1 << 30;

/// The maximum number of problems that are reported.
const MAX_PROBLEMS: usize = 50;

/// Parses a Dockerfile. Ok: every instruction is known and complete, and there is a stage. Err: every problem, in the
/// order of the file.
pub fn parse(source: &Source) -> Result<Dockerfile, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    if source.text().len() > MAX_FILE {
        return Err(vec![Diagnostic::error(Span::default(), "the file is larger than 1 GiB")]);
    }
    if let Some(problem) = directives::foreign_file(source).or_else(|| binary(source)) {
        return Err(vec![problem]);
    }
    let (directives, start) = directives::read(source, &mut problems);
    if let Some(check) = &directives.check {
        problems.extend(Controls::parse(check).err().unwrap_or_default());
    }
    let escape = directives.escape.map(|e| e.node).unwrap_or_default();
    let mut file = Dockerfile { source: source.clone(), directives, global_args: Vec::new(), stages: Vec::new() };
    let mut reader = Reader::new(source, escape, Some(start));
    let any = read_statements(&mut reader, &mut file, &mut problems);
    if problems.is_empty() && file.stages.is_empty() {
        problems.push(no_stage(&file, any));
    }
    if problems.is_empty() {
        return Ok(file);
    }
    if let Some(problem) = lone_returns(source) {
        return Err(vec![problem]);
    }
    if problems.len() > MAX_PROBLEMS {
        problems.truncate(MAX_PROBLEMS);
        let end = problems.last().map_or(Span::default(), |p| p.span);
        problems.push(Diagnostic::error(end, format!("more than {MAX_PROBLEMS} problems; the rest is not shown")));
    }
    Err(problems)
}

/// Puts every statement into its stage. False: there is none.
fn read_statements(reader: &mut Reader<'_>, file: &mut Dockerfile, problems: &mut Vec<Diagnostic>) -> bool {
    let mut any = false;
    let mut reported = false;
    while let Some(statement) = reader.next(problems) {
        any = true;
        if problems.len() > MAX_PROBLEMS {
            break;
        }
        let Some(statement) = statement else { continue };
        let (node, around) = statement.split();
        match (node, file.stages.last_mut()) {
            (Parsed::From(from), _) => file.stages.push(stage(around.map(|()| from))),
            (Parsed::Other(Instruction::Arg(arg)), None) => file.global_args.push(around.map(|()| arg)),
            (Parsed::Other(other), Some(stage)) => stage.instructions.push(around.map(|()| other)),
            (Parsed::Other(other), None) => {
                // One report is enough for a file without FROM.
                if !std::mem::replace(&mut reported, true) {
                    let message =
                        format!("no build stage in current context: {} before the first FROM", other.keyword());
                    problems.push(
                        Diagnostic::error(around.keyword.span, message)
                            .hint("start with FROM; only ARG, comments and directives may come before it"),
                    );
                }
            }
        }
    }
    any
}

/// The problem of a file without FROM; `any`: it has other statements.
fn no_stage(file: &Dockerfile, any: bool) -> Diagnostic {
    let end = file.source.text().len();
    let span = Span::new(end, end);
    if any {
        let last = file.global_args.last().map_or(span, |arg| arg.span);
        return Diagnostic::error(last, "no build stage: the file has ARG but no FROM");
    }
    Diagnostic::error(span.head(), "the file has no instructions").hint("a Dockerfile starts with FROM")
}

/// Parses a stored `ONBUILD` trigger: one instruction, with `\` as escape even if the file that stored it had another
/// (I-13). Problems carry `source`, because they are not in the Dockerfile that is built.
pub fn parse_trigger(source: &Source) -> Result<Statement<Instruction>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut found = None;
    let mut reader = Reader::new(source, Escape::Backslash, None);
    while let Some(statement) = reader.next(&mut problems) {
        let Some(statement) = statement else { continue };
        let span = statement.span;
        let refused = match &statement.node {
            Parsed::From(_) => Some("FROM"),
            Parsed::Other(other @ (Instruction::Onbuild(_) | Instruction::Maintainer(_))) => Some(other.keyword()),
            Parsed::Other(_) => None,
        };
        match (refused, found.is_some()) {
            (Some(keyword), _) => {
                problems.push(Diagnostic::error(span, format!("{keyword} is not allowed as an ONBUILD trigger")));
            }
            (None, true) => problems.push(Diagnostic::error(span, "an ONBUILD trigger holds one instruction")),
            (None, false) => found = Some(statement),
        }
    }
    if let Some(statement) = found
        && problems.is_empty()
    {
        let (node, around) = statement.split();
        if let Parsed::Other(node) = node {
            return Ok(around.map(|()| node));
        }
    }
    if problems.is_empty() {
        problems.push(Diagnostic::error(Span::default(), "the ONBUILD trigger is empty"));
    }
    Err(problems.into_iter().map(|p| p.in_source(source)).collect())
}

fn stage(from: Statement<From>) -> Stage {
    let name = from.node.alias.as_ref().map(|alias| Spanned::new(alias.text.to_lowercase(), alias.span));
    let description = name.as_ref().and_then(|name| instruction::description(&from.comments, &name.node));
    Stage { from, name, description, instructions: Vec::new() }
}

/// The problem of a binary file or of text in the wrong encoding: it has NUL bytes, or many bytes that are not UTF-8.
fn binary(source: &Source) -> Option<Diagnostic> {
    let text = source.text();
    let invalid = source.invalid();
    let nul = text.find('\0').map(|at| Span::new(at, at + 1));
    let many = invalid.len() >= 16.max(text.len() / 64);
    if nul.is_none() && (!many || starts_like_dockerfile(text)) {
        return None;
    }
    let first = nul.into_iter().chain(invalid.first().copied()).min().unwrap_or_default();
    let units = text.trim_start_matches(char::REPLACEMENT_CHARACTER).as_bytes();
    let wide =
        |nul: usize| units.len() >= 4 && units.chunks_exact(2).take(8).all(|unit| unit[nul] == 0 && unit[1 - nul] != 0);
    if wide(0) || wide(1) {
        let problem = Diagnostic::error(first, "this file is UTF-16, and a Dockerfile is UTF-8");
        return Some(
            problem.hint("save it as UTF-8; PowerShell's `>` writes UTF-16, `Set-Content -Encoding utf8` does not"),
        );
    }
    Some(
        Diagnostic::error(first, "this is not a text file")
            .note("it holds bytes that no Dockerfile has; is it an image, an archive or a program?"),
    )
}

/// Whether the first line that is neither blank nor a comment starts with an instruction. Then each line is checked
/// by itself, because comments may have any bytes (N-35).
fn starts_like_dockerfile(text: &str) -> bool {
    let mut at = 0;
    while let Some(line) = physical(text, at) {
        at = line.next;
        if !line.is_blank() && !line.is_comment() {
            let word = line.text.split_whitespace().next().unwrap_or_default();
            return is_keyword(word);
        }
    }
    false
}

/// The problem of a file with line ends of classic Mac OS: carriage returns inside its lines.
fn lone_returns(source: &Source) -> Option<Diagnostic> {
    let text = source.text();
    let bytes = text.as_bytes();
    let lone = |at: &usize| bytes.get(at + 1).is_some_and(|next| !matches!(next, b'\n' | b'\r'));
    let at = text.match_indices('\r').map(|(at, _)| at).find(lone)?;
    let problem = Diagnostic::error(Span::new(at, at), "a carriage return alone ends no line");
    Some(problem.hint("save the file with LF line ends, for example: tr '\\r' '\\n' < Dockerfile"))
}

/// Reads one statement after another.
struct Reader<'s> {
    source: &'s Source,
    escape: Escape,
    limited: bool,
    at: usize,
    /// How many of the replaced bytes are before `at`.
    invalid: usize,
}

impl<'s> Reader<'s> {
    /// `start` is the end of the directives of a file, whose lines have a maximum length; a trigger has neither.
    fn new(source: &'s Source, escape: Escape, start: Option<usize>) -> Self {
        Self { source, escape, limited: start.is_some(), at: start.unwrap_or(0), invalid: 0 }
    }

    /// The next statement; `Some(None)` is one with a problem.
    fn next(&mut self, problems: &mut Vec<Diagnostic>) -> Option<Option<Statement<Parsed>>> {
        let before = problems.len();
        let mut comments = Vec::new();
        let line = loop {
            let first = physical(self.source.text(), self.at)?;
            if self.limited && first.is_too_long() && (first.is_comment() || first.is_blank()) {
                problems.push(too_long(first.span()));
            }
            if first.is_comment() {
                self.comment(&first, &mut comments);
            } else if !first.is_blank() {
                break self.logical(problems);
            }
            self.at = first.next;
        };
        if problems.len() > before {
            return Some(None);
        }
        let text = self.source.text();
        let mut cursor = instruction::Cursor { text, at: self.at, limited: self.limited, escape: self.escape };
        let statement = instruction::statement(&line, &mut cursor, comments, problems);
        let start = self.at;
        self.at = cursor.at;
        if !self.source.invalid().is_empty() {
            // Text for people may have any bytes, as in BuildKit: old MAINTAINER lines are in Latin-1.
            let for_people = statement
                .as_ref()
                .is_some_and(|s| matches!(s.node, Parsed::Other(Instruction::Maintainer(_) | Instruction::Label(_))));
            if !for_people && line.text.contains(char::REPLACEMENT_CHARACTER) {
                self.refuse_invalid(line.span(0..line.text.len()), problems);
            }
            self.refuse_invalid(Span::new(start, self.at), problems);
        }
        let complete = problems.len() == before;
        Some(statement.filter(|_| complete))
    }

    /// Comments belong to the next instruction, even after blank lines; an empty comment discards those before it. As
    /// in BuildKit, the mark of an indented comment is part of its text, so that it neither describes nor controls
    /// anything.
    fn comment(&self, line: &Physical<'_>, comments: &mut Vec<Word>) {
        let mark = line.text.chars().next().map_or(0, char::len_utf8);
        let start = line.start + mark;
        let body = &self.source.text()[start..line.start + line.text.len()];
        let start = start + body.len() - body.trim_start().len();
        let body = body.trim();
        match body.is_empty() {
            true => comments.clear(),
            false => comments.push(Word::new(body, Span::new(start, start + body.len()))),
        }
    }

    /// Joins the physical lines of one instruction, the first of which is neither blank nor a comment.
    fn logical(&mut self, problems: &mut Vec<Diagnostic>) -> Line {
        let text = self.source.text();
        let escape = self.escape.char();
        let mut line = Line::default();
        let mut first = true;
        while let Some(part) = physical(text, self.at) {
            self.at = part.next;
            if self.limited && part.is_too_long() {
                problems.push(too_long(part.span()));
            }
            if !first && part.is_comment() {
                continue;
            }
            if !first && part.is_blank() {
                line.blank_line.get_or_insert(part.span());
                continue;
            }
            let indent = if first { part.indent() } else { 0 };
            let shown = &part.text[indent..];
            first = false;
            match continued(shown, escape) {
                Some(body) => line.push(body, part.start + indent),
                None => {
                    line.push(shown, part.start + indent);
                    break;
                }
            }
        }
        line
    }

    /// Reports bytes that are not UTF-8, which are allowed only in comments and in text for people.
    fn refuse_invalid(&mut self, span: Span, problems: &mut Vec<Diagnostic>) {
        let invalid = self.source.invalid();
        while invalid.get(self.invalid).is_some_and(|bad| bad.start < span.start) {
            self.invalid += 1;
        }
        let Some(bad) = invalid.get(self.invalid).filter(|bad| bad.start < span.end) else { return };
        problems.push(
            Diagnostic::error(*bad, "this byte is not UTF-8")
                .note("outside of comments, MAINTAINER and LABEL a Dockerfile is UTF-8")
                .hint("save the file as UTF-8; bytes for a file belong into a file that is copied"),
        );
        while invalid.get(self.invalid).is_some_and(|bad| bad.start < span.end) {
            self.invalid += 1;
        }
    }
}
