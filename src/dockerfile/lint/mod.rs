//! Warnings about Dockerfiles that work but will surprise somebody.
//!
//! **Holds.** The table of rules under BuildKit's names (`rule`), the rules that syntax alone decides (`syntax`), and
//! the author's controls: `# check=`, and `# check=skip=…` right above an instruction (`controls`).
//! **Order.** Everybody reports [`Diagnostic`](super::Diagnostic)s whose code is a rule's name; [`filter`] takes out what the author does
//! not want, once, at the end.
//! **Not here.** Rules that need a scope, a base image's config or the context: whoever has those reports them.

mod controls;
mod rule;
mod syntax;
#[cfg(test)]
mod tests;

pub use controls::{Controls, filter};
pub use rule::{RULES, Rule, find};
pub use syntax::{check, expose};
