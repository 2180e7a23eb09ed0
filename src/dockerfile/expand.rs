//! Variable expansion, quotes and escapes (V-1…V-14).
//!
//! **Holds.** A word is expanded in one pass from left to right; a nested `${…}` is part of the same pass. Nesting
//! and the length of the result are limited (`MAX_DEPTH`, `MAX_LENGTH` of `lexer`). An unset variable expands to nothing and
//! is reported (V-2).
//! **Not here.** Which variables exist: the caller's `lookup`.

use std::collections::BTreeSet;

use super::ast::Escape;
use super::diagnostic::Diagnostic;
pub use super::lexer::Lookup;
use super::lexer::{Lexer, Mode};
use super::source::Spanned;
use super::word::Word;

/// An expanded word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The text split at unquoted blanks; only filled by [`expand_words`].
    pub words: Vec<String>,
    /// Variables that the word uses and that exist.
    pub used: BTreeSet<String>,
    /// Variables that the word uses and that do not exist, with their positions.
    pub unset: Vec<Spanned<String>>,
}

/// Expands one word; blanks stay. The error points into the word.
pub fn expand(word: &Word, escape: Escape, lookup: &Lookup<'_>) -> Result<Expanded, Box<Diagnostic>> {
    run(word, escape.char(), Mode::WORD, lookup)
}

/// Expands one word and splits the result at unquoted blanks (V-13).
pub fn expand_words(word: &Word, escape: Escape, lookup: &Lookup<'_>) -> Result<Expanded, Box<Diagnostic>> {
    run(word, escape.char(), Mode { split: true, ..Mode::WORD }, lookup)
}

/// Expands the body of a heredoc: quotes are data, the escape is always `\` (P-19).
pub fn expand_body(body: &Word, lookup: &Lookup<'_>) -> Result<Expanded, Box<Diagnostic>> {
    run(body, '\\', Mode { quotes: false, ..Mode::WORD }, lookup)
}

fn run(word: &Word, escape: char, mode: Mode, lookup: &Lookup<'_>) -> Result<Expanded, Box<Diagnostic>> {
    let mut lexer = Lexer::new(&word.text, escape, mode, lookup);
    match lexer.run() {
        Ok((text, words)) => {
            let unset = lexer.unset.into_iter();
            Ok(Expanded {
                text,
                words: words.into_iter().map(|(text, _)| text).collect(),
                used: lexer.used,
                unset: unset.map(|(name, range)| Spanned::new(name, word.locate(range))).collect(),
            })
        }
        Err(problem) => {
            let mut diagnostic = Diagnostic::error(word.locate(problem.range), problem.message);
            diagnostic.hints.extend(problem.hint);
            Err(Box::new(diagnostic))
        }
    }
}
