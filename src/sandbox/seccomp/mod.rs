//! The system call filters of a sandboxed command.
//!
//! **Holds.** `filter` turns Docker's default profile (`table`) into a program that also reports calls which cannot
//! work on this host (`notices`). `files` is a second filter, which stops calls that change files until a process has
//! replied.
//! **Not here.** Replies to reported and stopped calls: [`super::supervise`].

mod files;
mod filter;
mod notices;
mod program;
mod rule;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use files::{FileOperation, WatchScope};
pub(super) use files::{Operand, decode, program as file_filter, replaces_names};
pub(super) use filter::filter;
pub(crate) use notices::Notice;
pub(super) use notices::{Limits, notice};
