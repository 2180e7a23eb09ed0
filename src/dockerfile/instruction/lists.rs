//! `SHELL`, `EXPOSE` and `VOLUME`: lists.

use super::args::{Args, needs};
use crate::dockerfile::ast::Volume;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::word::Word;
use crate::dockerfile::words::{self, List};

impl Args<'_> {
    pub(super) fn shell(&mut self) -> Option<Vec<Word>> {
        match words::json(self.line, self.rest.clone()) {
            List::Strings(words) if !words.is_empty() => Some(words),
            List::Mixed(mixed) => {
                self.report(mixed);
                None
            }
            List::Not if !self.rest.is_empty() => {
                let text = &self.line.text[self.rest.clone()];
                let hint = match words::resembles_json(text) {
                    true => "JSON strings stand in double quotes",
                    false => "for example SHELL [\"/bin/bash\", \"-c\"]",
                };
                let problem = Diagnostic::error(self.args_span(), "SHELL requires its arguments as a JSON list");
                self.report(problem.hint(hint));
                None
            }
            List::Strings(_) | List::Not => {
                let problem = needs(self.args_span(), "SHELL", "at least one argument");
                self.report(problem.hint("for example SHELL [\"/bin/bash\", \"-c\"]"));
                None
            }
        }
    }

    pub(super) fn expose(&mut self) -> Option<Vec<Word>> {
        let ranges = words::split(self.line, self.rest.clone());
        if ranges.is_empty() {
            self.report(needs(self.keyword_span, "EXPOSE", "at least one port").hint("for example EXPOSE 80 53/udp"));
            return None;
        }
        Some(ranges.into_iter().map(|range| self.line.word(range)).collect())
    }

    pub(super) fn volume(&mut self) -> Option<Volume> {
        let (paths, json) = match words::json(self.line, self.rest.clone()) {
            List::Strings(words) => (words, true),
            List::Mixed(mixed) => {
                self.report(mixed);
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
}
