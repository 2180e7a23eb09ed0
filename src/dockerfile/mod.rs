//! Text to AST with spans; expansion; lint; diagnostics. No I/O.
//!
//! **Holds.** [`parse()`] reads every Dockerfile that BuildKit's frontend reads and refuses what it refuses; what was
//! written stays as it was, unexpanded, with the place of every word (`ast`, `word`). All problems of a file come in
//! one run (`diagnostic`).
//! **Order.** Bytes → [`Source`] → lines joined (`line`) → keyword, flags, arguments (`instruction`, `flags`,
//! `words`), heredoc bodies (`heredoc`) → [`Dockerfile`] → expansion of single words when a plan asks (`expand`).
//! **Not here.** What a variable's value is, what stage a name means, what an instruction does: `plan`. How a
//! diagnostic looks: `ui`.

pub mod ast;
mod diagnostic;
mod directives;
mod dump;
mod duration;
pub mod expand;
mod flags;
mod format;
pub mod heredoc;
mod instruction;
mod keyword;
mod lexer;
mod line;
pub mod lint;
pub mod mount;
mod parse;
mod pattern;
mod run_form;
mod source;
pub mod suggest;
mod word;
mod words;

#[cfg(test)]
mod tests;

pub use ast::{Dockerfile, Escape, Instruction, Stage, Statement};
pub use diagnostic::{Diagnostic, Label, Severity};
pub use directives::{FRONTEND, Syntax, check_syntax, syntax};
pub use dump::{dump, dump_instruction};
pub use format::to_text;
pub use parse::{parse, parse_trigger};
pub use run_form::RunForm;
pub use source::{Position, Source, Span, Spanned};
pub use word::Word;
pub use words::resembles_json;
