//! The position after the current line.

use crate::dockerfile::ast::Escape;

/// Where the line after the current one starts: heredoc bodies are read from there.
#[derive(Debug)]
pub(in crate::dockerfile) struct Cursor<'s> {
    /// The whole source.
    pub(in crate::dockerfile) text: &'s str,
    /// The offset of that line.
    pub(in crate::dockerfile) at: usize,
    /// Physical lines have a maximum length.
    pub(in crate::dockerfile) limited: bool,
    /// The escape character in force.
    pub(in crate::dockerfile) escape: Escape,
}
