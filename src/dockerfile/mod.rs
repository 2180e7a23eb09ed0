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
pub(crate) mod heredoc;
mod instruction;
mod keyword;
mod lexer;
mod line;
pub mod lint;
pub(crate) mod mount;
mod parse;
mod pattern;
mod run_form;
mod source;
pub(crate) mod suggest;
mod word;
mod words;

#[cfg(test)]
mod tests;

pub use ast::{Dockerfile, Escape, Instruction};
pub(crate) use ast::{Stage, Statement};
pub use diagnostic::Diagnostic;
pub(crate) use diagnostic::{Entitlement, Severity};
pub(crate) use directives::check_syntax;
pub use dump::dump;
#[cfg(test)]
use dump::dump_instruction;
pub use format::to_text;
pub use parse::{parse, parse_trigger};
pub(crate) use pattern::Pattern;
pub(crate) use run_form::RunForm;
pub(crate) use source::Spanned;
pub use source::{Source, Span};
pub use word::Word;
pub(crate) use words::resembles_json;
