//! `ARG`, `ENV` and `LABEL`: names and values (A-1, I-1, I-2).

use std::ops::Range;

use super::args::{Args, description, is_open, needs};
use crate::dockerfile::ast::{Arg, ArgItem, Pairs};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::words;

/// The maximum length of a value in a hint, in characters.
const SHOWN: usize = 60;

impl Args<'_> {
    pub(super) fn arg(&mut self) -> Option<Arg> {
        let ranges = words::quoted(self.line, self.rest.clone(), self.escape);
        if ranges.is_empty() {
            self.report(needs(self.keyword_span, "ARG", "at least one name").hint("for example ARG VERSION=1"));
            return None;
        }
        let mut items = Vec::new();
        for range in ranges {
            let text = &self.line.text[range.clone()];
            let eq = text.find('=').map(|eq| range.start + eq);
            let name = self.line.word(range.start..eq.unwrap_or(range.end));
            let default = eq.map(|eq| self.line.word(eq + 1..range.end));
            if name.text.is_empty() {
                self.nameless(range);
                continue;
            }
            if name.text.contains('$') {
                // Names of ARG are not expanded (V-12, N-8).
                let problem = Diagnostic::error(name.span, "cannot expand a variable in the name of an ARG");
                self.report(problem.hint("write the name itself; only the default value is expanded"));
                continue;
            }
            let description = description(self.comments, &name.text);
            items.push(ArgItem { name, default, description });
        }
        Some(Arg { items })
    }

    pub(super) fn pairs(&mut self) -> Option<Pairs> {
        let ranges = words::quoted(self.line, self.rest.clone(), self.escape);
        let Some(first) = ranges.first() else {
            let problem = needs(self.keyword_span, self.keyword, "at least one name=value");
            self.report(problem);
            return None;
        };
        if !self.line.text[first.clone()].contains('=') {
            return self.legacy_pair();
        }
        let mut pairs = Vec::new();
        let mut before = first.clone();
        let mut rest = ranges.into_iter().peekable();
        while let Some(range) = rest.next() {
            match self.line.text[range.clone()].find('=') {
                None => {
                    // Words in a row are one mistake.
                    let mut end = range.end;
                    while let Some(next) = rest.next_if(|next| !self.line.text[next.clone()].contains('=')) {
                        end = next.end;
                    }
                    self.no_equals(before.clone(), range.start..end);
                }
                Some(0) => self.nameless(range),
                Some(eq) => {
                    let eq = range.start + eq;
                    pairs.push((self.line.word(range.start..eq), self.line.word(eq + 1..range.end)));
                    before = range;
                }
            }
        }
        Some(Pairs { pairs, legacy: false })
    }

    /// Reports words without `=` after the pair `before`, to which they probably belong.
    fn no_equals(&mut self, before: Range<usize>, found: Range<usize>) {
        let text = self.line.text.as_str();
        let (pair, shown) = (&text[before.clone()], &text[found.clone()]);
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let one = if shown.contains(char::is_whitespace) { "have" } else { "has" };
        let plain = |text: &str| !text.contains(['"', '\'', '\\', '`']) && text.chars().count() <= SHOWN;
        let hint = if text[before.start..found.end].contains(words::TYPOGRAPHIC) {
            "typographic quotes do not keep blanks together: write \" or '".to_owned()
        } else if value.is_empty() {
            format!("write {name}={} without a blank behind =", shown.split_whitespace().next().unwrap_or_default())
        } else if plain(&text[before.start..found.end]) {
            format!("a value with blanks goes in quotes: {name}=\"{}\"", &text[before.end - value.len()..found.end])
        } else if is_open(value) {
            "a blank ends a value, also inside `${…}`: put the whole value in quotes".to_owned()
        } else {
            "put a value with blanks in quotes".to_owned()
        };
        let shown: String = shown.chars().take(SHOWN).collect();
        let problem = Diagnostic::error(self.line.span(found), format!("`{shown}` {one} no =, want name=value"));
        self.report(problem.hint(hint));
    }

    fn nameless(&mut self, range: Range<usize>) {
        let problem = Diagnostic::error(self.line.span(range), format!("{} names cannot be empty", self.keyword));
        self.report(problem.hint("write name=value without blanks around ="));
    }

    /// `KEY the rest of the line`.
    fn legacy_pair(&mut self) -> Option<Pairs> {
        let text = &self.line.text[self.rest.clone()];
        let Some(end) = text.find(words::BLANKS) else {
            let shown: String = text.chars().take(SHOWN).collect();
            let problem = Diagnostic::error(self.args_span(), format!("{} {shown} has no value", self.keyword));
            self.report(problem.hint(format!("write {} {shown}=value, or {shown}= for an empty one", self.keyword)));
            return None;
        };
        let after = text.len() - text[end..].trim_start_matches(words::BLANKS).len();
        let start = self.rest.start;
        let pair = (self.line.word(start..start + end), self.line.word(start + after..self.rest.end));
        Some(Pairs { pairs: vec![pair], legacy: true })
    }
}
