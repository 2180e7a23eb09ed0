//! Text to AST with spans; expansion; lint; diagnostics. No I/O.
//!
//! **Holds.** [`parse()`] accepts and refuses the same Dockerfiles as BuildKit's frontend. The syntax tree has the
//! text as written, unexpanded, with the position of every word (`ast`, `word`). All problems of a file are reported
//! at once (`diagnostic`).
//! **Order.** Bytes → [`Source`] → logical lines (`line`) → keyword, flags, arguments (`instruction`, `keyword`,
//! `flags`, `words`), heredoc bodies (`heredoc`) → [`Dockerfile`] → expansion of single words, when planning needs it
//! (`expand`).
//! **Not here.** The values of variables, the stage that a name means, the effect of an instruction: `plan`. How a
//! diagnostic is shown: `ui`.

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
pub use diagnostic::{Diagnostic, Entitlement, Label, Severity};
pub use directives::check_syntax;
pub use dump::dump;
#[cfg(test)]
use dump::dump_instruction;
pub use format::to_text;
pub use parse::{parse, parse_trigger};
pub use run_form::RunForm;
pub use source::{Position, Source, Span, Spanned};
pub use word::Word;
pub use words::resembles_json;
