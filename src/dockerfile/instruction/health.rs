//! `HEALTHCHECK` (I-10).

use std::time::Duration;

use super::args::{Args, needs};
use crate::dockerfile::ast::{Command, HealthTest, Healthcheck};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::duration;
use crate::dockerfile::source::Spanned;
use crate::dockerfile::words;

impl Args<'_> {
    pub(super) fn is_health_none(&self) -> bool {
        self.keyword == "HEALTHCHECK" && self.line.text[self.rest.clone()].eq_ignore_ascii_case("NONE")
    }

    pub(super) fn healthcheck(&mut self) -> Option<Healthcheck> {
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
                let json = words::json(self.line, command.clone());
                let command = self.command(json, command)?;
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
        let value = self.flags.filled(name)?;
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
        let value = self.flags.filled("retries")?;
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
