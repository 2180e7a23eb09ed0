//! The reader of words with quotes, escapes and `${…}`, for [`super::expand`] and for heredocs.

use std::collections::BTreeSet;
use std::ops::Range;

use super::pattern::Pattern;

/// How deep `${a:-${b:-…}}` may nest.
pub(super) const MAX_DEPTH: usize = 100;

/// The longest text that a word may expand to, in bytes: without it, repeating `ENV a=$a$a` would exhaust the memory.
pub(super) const MAX_LENGTH: usize = 16 << 20;

/// Finds the value of a variable.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Which characters are special, and what stays in the result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// `'` and `"` group text.
    pub(super) quotes: bool,
    /// Grouping quotes stay in the result.
    pub(super) keep_quotes: bool,
    /// Escape characters stay in the result.
    pub(super) keep_escapes: bool,
    /// A reference to an unset variable stays as it is.
    pub(super) keep_unset: bool,
    /// The result is split into words.
    pub(super) split: bool,
    /// `<<` and the blanks after it belong to the word that follows (P-16).
    pub(super) heredocs: bool,
}

impl Mode {
    /// An ordinary argument.
    pub(super) const WORD: Self = Self {
        quotes: true,
        keep_quotes: false,
        keep_escapes: false,
        keep_unset: false,
        split: false,
        heredocs: false,
    };
}

/// An error at a range of the word's text.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) range: Range<usize>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

type Result<T> = std::result::Result<T, Problem>;

/// A word and the part of the text it came from.
pub(super) type Piece = (String, Range<usize>);

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    mode: Mode,
    keep_escapes: bool,
    depth: usize,
    lookup: &'a Lookup<'a>,
    pub(super) used: BTreeSet<String>,
    pub(super) unset: Vec<(String, Range<usize>)>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, escape: char, mode: Mode, lookup: &'a Lookup<'a>) -> Self {
        let (used, unset) = (BTreeSet::new(), Vec::new());
        Self { text, at: 0, escape, mode, keep_escapes: mode.keep_escapes, depth: 0, lookup, used, unset }
    }

    /// The expanded text; if the mode splits, also its words with their ranges.
    pub(super) fn run(&mut self) -> Result<(String, Vec<Piece>)> {
        let mut words = Words { on: self.mode.split, ..Words::default() };
        let text = self.until(None, 0, self.mode.keep_escapes, &mut words)?;
        Ok((text, words.finish(self.text.len())))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// The error of a `${` without its end, from `start` on.
    fn unclosed<T>(&self, start: usize) -> Result<T> {
        let hint = "close it; where blanks separate words, a value with blanks stands in quotes".to_owned();
        Err(Problem { range: start..self.at, message: "missing `}`".to_owned(), hint: Some(hint) })
    }

    fn problem<T>(&self, range: Range<usize>, message: impl Into<String>) -> Result<T> {
        Err(Problem { range, message: message.into(), hint: None })
    }

    fn check_length(&self, out: &str, start: usize) -> Result<()> {
        if out.len() > MAX_LENGTH {
            return self.problem(start..self.at, format!("expands to more than {} MiB", MAX_LENGTH >> 20));
        }
        Ok(())
    }

    /// Reads up to the end or to `stop`, which is consumed and closes what was opened at `opened`.
    fn until(&mut self, stop: Option<char>, opened: usize, keep_escapes: bool, words: &mut Words) -> Result<String> {
        let before = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let result = self.until_inner(stop, opened, words);
        self.keep_escapes = before;
        result
    }

    fn until_inner(&mut self, stop: Option<char>, opened: usize, words: &mut Words) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                return Ok(out);
            }
            let start = self.at;
            words.at = start;
            match c {
                '$' => {
                    let value = self.dollar()?;
                    words.push_unquoted(&value);
                    out.push_str(&value);
                }
                '\'' | '"' if self.mode.quotes => {
                    let value = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.push_quoted(&value);
                    out.push_str(&value);
                }
                '<' if self.mode.heredocs => {
                    let value = self.less_than();
                    words.push_quoted(value);
                    out.push_str(value);
                }
                c if c == self.escape => {
                    self.next();
                    if self.keep_escapes {
                        words.push_quoted(&self.text[start..self.at]);
                        out.push(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    words.push_quoted(escaped.encode_utf8(&mut [0; 4]));
                    out.push(escaped);
                }
                c => {
                    self.next();
                    words.push_char(c);
                    out.push(c);
                }
            }
            self.check_length(&out, start)?;
        }
        match stop {
            None => Ok(out),
            Some('}') => self.unclosed(opened),
            Some(c) => self.problem(opened..self.text.len(), format!("missing `{c}`")),
        }
    }

    /// `<`, or `<<` with the blanks after it.
    fn less_than(&mut self) -> &'a str {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while self.peek().is_some_and(char::is_whitespace) {
                self.next();
            }
        }
        &self.text[start..self.at]
    }

    fn single_quoted(&mut self) -> Result<String> {
        let start = self.at;
        self.next();
        match self.text[self.at..].find('\'') {
            Some(length) => {
                let inner = self.at..self.at + length;
                self.at = inner.end + 1;
                let range = if self.mode.keep_quotes { start..self.at } else { inner };
                Ok(self.text[range].to_owned())
            }
            None => Err(unterminated(start, "'")),
        }
    }

    fn double_quoted(&mut self) -> Result<String> {
        let start = self.at;
        let mut out = String::new();
        self.next();
        if self.mode.keep_quotes {
            out.push('"');
        }
        while let Some(c) = self.peek() {
            let before = self.at;
            match c {
                '"' => {
                    self.next();
                    if self.mode.keep_quotes {
                        out.push('"');
                    }
                    return Ok(out);
                }
                '$' => out.push_str(&self.dollar()?),
                c if c == self.escape => {
                    self.next();
                    if self.keep_escapes {
                        out.push(c);
                    }
                    match self.peek() {
                        // An escape at the end is dropped; the missing quote is reported next.
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.next();
                            out.push(next);
                        }
                        Some(_) => out.push(c),
                    }
                }
                c => {
                    self.next();
                    out.push(c);
                }
            }
            self.check_length(&out, before)?;
        }
        Err(unterminated(start, "\""))
    }

    fn dollar(&mut self) -> Result<String> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.get(name, start);
            return Ok(self.or_kept(value, start));
        }
        self.next();
        match self.peek() {
            None => return self.unclosed(start),
            Some('}') => return self.problem(start..self.at + 1, "`${}` names no variable"),
            Some(c @ ('{' | ':')) => {
                return self
                    .problem(start..self.at + c.len_utf8(), "bad substitution: a variable name must follow `${`");
            }
            Some(_) => {}
        }
        if self.depth >= MAX_DEPTH {
            return self.problem(start..self.at, format!("`${{` nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let value = self.braced(start);
        self.depth -= 1;
        value
    }

    fn braced(&mut self, start: usize) -> Result<String> {
        let name = self.name();
        let operator = self.at;
        match self.next() {
            Some('}') => {
                let value = self.get(name, start);
                Ok(self.or_kept(value, start))
            }
            Some(c @ ('-' | '+' | '?' | '#' | '%')) => self.modified(start, name, c, false),
            Some(':') => match self.next() {
                Some(c @ ('-' | '+' | '?')) => self.modified(start, name, c, true),
                None => self.unclosed(start),
                Some(_) => self.unsupported(operator),
            },
            Some('/') => self.replaced(start, name),
            None => self.unclosed(start),
            Some(_) => self.unsupported(operator),
        }
    }

    fn unsupported<T>(&self, operator: usize) -> Result<T> {
        let range = operator..self.at;
        Err(Problem {
            message: format!("unsupported modifier `{}` in substitution", &self.text[range.clone()]),
            range,
            hint: Some("known are :- - :+ + :? ? # ## % %% / //".to_owned()),
        })
    }

    fn modified(&mut self, start: usize, name: &str, operator: char, colon: bool) -> Result<String> {
        let pattern = matches!(operator, '#' | '%');
        let text_at = self.at;
        let word = self.until(Some('}'), start, pattern, &mut Words::default())?;
        let value = self.get(name, start);
        if value.is_none() && self.mode.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let present = value.as_ref().is_some_and(|v| !(colon && v.is_empty()));
        match operator {
            '-' if present => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if present => Ok(word),
            '+' => Ok(String::new()),
            '?' if present => Ok(value.unwrap_or_default()),
            '?' => {
                let default = if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { default } else { &word };
                self.problem(start..self.at, format!("{name}: {message}"))
            }
            _ => {
                let (word, longest) = match word.strip_prefix(operator) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                let pattern = self.pattern(word, text_at..self.at - 1)?;
                let value = value.unwrap_or_default();
                let kept = match operator {
                    '#' => pattern.trim_prefix(&value, longest),
                    _ => pattern.trim_suffix(&value, longest),
                };
                Ok(kept.to_owned())
            }
        }
    }

    fn replaced(&mut self, start: usize, name: &str) -> Result<String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let text_at = self.at;
        let word = match self.until(Some('/'), start, true, &mut Words::default()) {
            Ok(word) => word,
            Err(problem) if problem.message == "missing `/`" => {
                return Err(Problem {
                    message: "missing `/` before the replacement".to_owned(),
                    hint: Some("write ${name/pattern/replacement}; the replacement may be empty".to_owned()),
                    ..problem
                });
            }
            Err(problem) => return Err(problem),
        };
        let pattern_range = text_at..self.at - 1;
        let replacement = self.until(Some('}'), start, true, &mut Words::default())?;
        let value = self.get(name, start);
        let Some(value) = value else {
            if self.mode.keep_unset {
                return Ok(self.text[start..self.at].to_owned());
            }
            // An unset variable is empty, and an empty pattern matches there.
            return self.substitute("", &word, pattern_range, &replacement, all);
        };
        self.substitute(&value, &word, pattern_range, &replacement, all)
    }

    fn substitute(&self, value: &str, word: &str, at: Range<usize>, new: &str, all: bool) -> Result<String> {
        let start = at.start;
        let pattern = self.pattern(word, at)?;
        match pattern.replace(value, new, all, MAX_LENGTH) {
            Some(text) => Ok(text),
            None => self.problem(start..self.at, format!("expands to more than {} MiB", MAX_LENGTH >> 20)),
        }
    }

    fn pattern(&self, word: &str, range: Range<usize>) -> Result<Pattern> {
        Pattern::new(word).or_else(|escaped| {
            self.problem(
                range,
                format!("invalid escape `\\{escaped}` in the pattern; only \\* \\? \\\\ \\/ \\}} are known"),
            )
        })
    }

    /// A variable name, a run of digits, or one special parameter; empty when none follows.
    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let first = rest.chars().next();
        let length = match first {
            Some(c) if c.is_numeric() => rest.find(|c: char| !c.is_numeric()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()),
        };
        self.at += length;
        &rest[..length]
    }

    fn get(&mut self, name: &str, start: usize) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_some() {
            self.used.insert(name.to_owned());
        } else {
            self.unset.push((name.to_owned(), start..self.at));
        }
        value
    }

    fn or_kept(&self, value: Option<String>, start: usize) -> String {
        match value {
            Some(value) => value,
            None if self.mode.keep_unset => self.text[start..self.at].to_owned(),
            None => String::new(),
        }
    }
}

fn unterminated(start: usize, quote: &str) -> Problem {
    Problem { range: start..start + 1, message: format!("unterminated quote: no matching {quote} follows"), hint: None }
}

/// The words of a line while it is read.
#[derive(Default)]
struct Words {
    on: bool,
    done: Vec<Piece>,
    word: String,
    start: usize,
    /// The position of the next piece.
    at: usize,
}

impl Words {
    fn push_quoted(&mut self, text: &str) {
        if self.on {
            if self.word.is_empty() {
                self.start = self.at;
            }
            self.word.push_str(text);
        }
    }

    fn push_unquoted(&mut self, text: &str) {
        if self.on {
            text.chars().for_each(|c| self.push_char(c));
        }
    }

    fn push_char(&mut self, c: char) {
        if !self.on {
        } else if !c.is_whitespace() {
            self.push_quoted(c.encode_utf8(&mut [0; 4]));
        } else if !self.word.is_empty() {
            self.end_word(self.at);
        }
    }

    fn end_word(&mut self, end: usize) {
        self.done.push((std::mem::take(&mut self.word), self.start..end.max(self.start)));
    }

    fn finish(mut self, end: usize) -> Vec<Piece> {
        if !self.word.is_empty() {
            self.end_word(end);
        }
        self.done
    }
}
