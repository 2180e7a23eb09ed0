//! `--name=value` words between a keyword and its arguments (P-10).

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::keyword::{Kind, Known, owner};
use super::line::Line;
use super::source::{Span, Spanned};
use super::word::{Word, WordBuilder};

/// The flags of one instruction.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// The words, with quotes and escapes removed.
    written: Vec<Word>,
    accepted: Vec<(&'static str, Option<Word>, Span)>,
}

/// Reads the flags at the start of `range`; the second value is where the arguments begin. The escape is always `\`
/// here.
pub(super) fn read(line: &Line, range: Range<usize>, problems: &mut Vec<Diagnostic>) -> (Flags, usize) {
    let mut flags = Flags::default();
    let mut at = range.start;
    loop {
        at += line.text[at..range.end].len() - line.text[at..range.end].trim_start().len();
        if !line.text[at..range.end].starts_with("--") {
            return (flags, at);
        }
        let start = at;
        let mut word = WordBuilder::default();
        let mut quote: Option<(char, usize)> = None;
        while let Some(c) = line.text[at..range.end].chars().next() {
            let here = at;
            if quote.is_none() && c.is_whitespace() {
                break;
            }
            at += c.len_utf8();
            match (c, quote) {
                ('"' | '\'', None) => quote = Some((c, here)),
                (c, Some((open, _))) if c == open => quote = None,
                ('\\', _) => {
                    if let Some(next) = line.text[at..range.end].chars().next() {
                        word.push_char(next, line.locate(at));
                        at += next.len_utf8();
                    }
                }
                (c, _) => word.push_char(c, line.locate(here)),
            }
        }
        if let Some((open, here)) = quote {
            let message = format!("unterminated quote in a flag: no matching {open} follows");
            problems.push(Diagnostic::error(line.span(here..here + 1), message));
        }
        if word.as_str() == "--" {
            return (flags, at);
        }
        let word = word.finish(line.span(start..at));
        flags.written.push(word);
    }
}

impl Flags {
    /// Checks the flags against those that `keyword` accepts. Every problem is reported.
    pub(super) fn check(&mut self, keyword: &str, known: &[Known], problems: &mut Vec<Diagnostic>) {
        for word in std::mem::take(&mut self.written) {
            let (name, value) = match word.text.find('=') {
                Some(eq) => (&word.text[2..eq], Some(word.part(eq + 1..word.text.len()))),
                None => (&word.text[2..], None),
            };
            let Some((name, kind)) = known.iter().find(|(flag, _)| *flag == name).copied() else {
                problems.push(unknown(keyword, name, known, word.span));
                continue;
            };
            let before = self.accepted.iter().find(|(flag, ..)| *flag == name).map(|(.., span)| *span);
            if let (Some(first), false) = (before, kind == Kind::List) {
                let message = format!("flag --{name} given twice");
                problems.push(Diagnostic::error(word.span, message).also(first, "first given here"));
                continue;
            }
            let empty = value.as_ref().is_none_or(|v| v.text.is_empty());
            let message = match (kind, &value) {
                (Kind::Bool, Some(v)) if !is_bool(&v.text) => {
                    let got = if empty { "nothing" } else { &v.text };
                    Some(format!("flag --{name} takes true or false, not {got}"))
                }
                // An empty value is allowed; its meaning depends on the flag (N-23).
                (Kind::Text | Kind::List, None) => Some(format!("flag --{name} needs a value")),
                _ => None,
            };
            match message {
                Some(message) => {
                    let hint = match kind {
                        Kind::Bool => format!("write --{name}, --{name}=true or --{name}=false"),
                        _ => format!("write --{name}=VALUE, without blanks around ="),
                    };
                    problems.push(Diagnostic::error(word.span, message).hint(hint));
                }
                None => self.accepted.push((name, value, word.span)),
            }
        }
    }

    /// Checks only names: `HEALTHCHECK NONE` ignores the values of its flags, as in BuildKit.
    pub(super) fn check_names(&mut self, keyword: &str, known: &[Known], problems: &mut Vec<Diagnostic>) {
        for word in std::mem::take(&mut self.written) {
            let name = word.text[2..].split('=').next().unwrap_or_default();
            if !known.iter().any(|(flag, _)| *flag == name) {
                problems.push(unknown(keyword, name, known, word.span));
            }
        }
    }

    /// The value of a flag that takes one.
    pub(super) fn text(&mut self, name: &str) -> Option<Word> {
        self.list(name).into_iter().next()
    }

    /// The same for a flag whose empty value means that it is absent.
    pub(super) fn filled(&mut self, name: &str) -> Option<Word> {
        self.text(name).filter(|value| !value.text.is_empty())
    }

    /// The values of a flag that may repeat, in order.
    pub(super) fn list(&mut self, name: &str) -> Vec<Word> {
        if self.accepted.is_empty() {
            return Vec::new();
        }
        let (own, others) = std::mem::take(&mut self.accepted).into_iter().partition(|(flag, ..)| *flag == name);
        self.accepted = others;
        let own: Vec<(_, Option<Word>, _)> = own;
        own.into_iter().filter_map(|(_, value, _)| value).collect()
    }

    /// The value of a boolean flag.
    pub(super) fn bool(&mut self, name: &str) -> Option<Spanned<bool>> {
        let (_, value, span) = self.accepted.iter().find(|(flag, ..)| *flag == name)?;
        let on = value.as_ref().is_none_or(|v| v.text.eq_ignore_ascii_case("true"));
        Some(Spanned::new(on, *span))
    }
}

fn is_bool(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

fn unknown(keyword: &str, name: &str, known: &[Known], span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error(span, format!("unknown flag --{name} of {keyword}"));
    let near = super::suggest::nearest(name, known.iter().map(|(flag, _)| *flag));
    if let Some(near) = near {
        return diagnostic.hint(format!("did you mean `--{near}`?"));
    }
    if let Some(owner) = owner(name, keyword) {
        return diagnostic.hint(format!("--{name} is a flag of {owner}"));
    }
    match (known, keyword) {
        ([], "ONBUILD") => diagnostic.hint("flags stand behind the instruction that ONBUILD keeps"),
        ([], _) => diagnostic.hint(format!("{keyword} has no flags; write `{keyword} -- --{name}` for an argument")),
        (known, _) => {
            let names: Vec<String> = known.iter().map(|(flag, _)| format!("--{flag}")).collect();
            diagnostic.hint(format!("{keyword} knows {}", names.join(" ")))
        }
    }
}
