//! The four forms that the command of a `RUN` can have (P-11, P-17, P-18).

use super::ast::{Command, Run};
use super::heredoc::{Heredoc, parse_word};
use super::word::Word;

/// The form of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunForm<'a> {
    /// The JSON form: no shell.
    Exec(&'a [Word]),
    /// A line without heredocs.
    Line(&'a Word),
    /// Only a heredoc (P-17): its body is the script. If it starts with `#!`, it is executed as a file.
    Script(&'a Heredoc),
    /// A command that reads heredocs (P-18): the line, the bodies and the delimiters joined again.
    Fed(String),
}

impl Run {
    /// The form of this `RUN`.
    pub fn form(&self) -> RunForm<'_> {
        let line = match &self.command {
            Command::Exec(words) => return RunForm::Exec(words),
            Command::Shell(line) => line,
        };
        match self.heredocs.as_slice() {
            [] => RunForm::Line(line),
            [first, ..] if parse_word(&line.text).is_some() => RunForm::Script(first),
            all => {
                let mut text = line.text.clone();
                for heredoc in all {
                    text.push('\n');
                    text.push_str(&heredoc.raw.text);
                    text.push_str(&heredoc.name);
                }
                RunForm::Fed(text)
            }
        }
    }
}
