//! `FROM` (F-1, F-2).

use super::args::{Args, is_open, needs};
use crate::dockerfile::ast::From;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::word::Word;
use crate::dockerfile::words;

impl Args<'_> {
    pub(super) fn from(&mut self) -> Option<From> {
        let ranges = words::split(self.line, self.rest.clone());
        let found: Vec<Word> = ranges.iter().map(|range| self.line.word(range.clone())).collect();
        let platform = self.flags.filled("platform");
        let is_as = |word: &Word| word.text.eq_ignore_ascii_case("as");
        match found.as_slice() {
            [] => {
                let problem = needs(self.keyword_span, "FROM", "an image, a stage or scratch");
                self.report(problem.hint("for example FROM debian:12 AS build"));
                None
            }
            [image] => Some(From { image: image.clone(), platform, as_keyword: None, alias: None }),
            [image, keyword, alias] if is_as(keyword) => {
                self.stage_name(alias)?;
                let (as_keyword, alias) = (Some(keyword.clone()), Some(alias.clone()));
                Some(From { image: image.clone(), platform, as_keyword, alias })
            }
            [image, second, further @ ..] => {
                let last = ranges.last().map_or(self.rest.end, |range| range.end);
                let extra = |first: usize| self.line.span(ranges[first].start..last);
                let (span, hint) = match further {
                    _ if is_open(&image.text) => {
                        (extra(1), "a blank ends the image's name, also inside `${…}`".to_owned())
                    }
                    [] if is_as(second) => (second.span, "a stage name must follow AS".to_owned()),
                    [] => (second.span, format!("to name the stage write FROM {image} AS {second}")),
                    [_, _, ..] if is_as(second) => (extra(3), "the name of a stage is one word".to_owned()),
                    [name] => (second.span, format!("to name the stage write FROM {image} AS {name}")),
                    _ => (extra(1), "to name the stage write AS and a name behind the image".to_owned()),
                };
                self.report(Diagnostic::error(span, "FROM takes an image, or an image AS name").hint(hint));
                None
            }
        }
    }

    fn stage_name(&mut self, alias: &Word) -> Option<()> {
        let lower = alias.text.to_lowercase();
        let head = lower.starts_with(|c: char| c.is_ascii_lowercase());
        if head && lower.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.')) {
            return Some(());
        }
        let problem = Diagnostic::error(alias.span, format!("invalid stage name `{}`", alias.text));
        self.report(problem.hint("a stage name starts with a letter and holds letters, digits, `-`, `_` and `.`"));
        None
    }
}
