//! Warnings about Dockerfiles that are valid but probably wrong.
//!
//! **Holds.** The table of rules with BuildKit's names (`rule`), the rules that need only the syntax (`syntax`), and
//! the author's controls: `# check=` at the top, and `# check=skip=…` above an instruction (`controls`).
//! **Order.** Rules report [`Diagnostic`](super::Diagnostic)s whose code is the rule's name; [`filter`] removes the
//! unwanted ones once, at the end.
//! **Not here.** Rules that need variables, a base image's config or the context: `plan` and `engine` report them.

mod controls;
mod rule;
mod syntax;
#[cfg(test)]
mod tests;

pub use controls::{Controls, filter};
pub use rule::{RULES, Rule, find};
pub use syntax::{check, expose};
