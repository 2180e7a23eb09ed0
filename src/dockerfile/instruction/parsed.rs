//! The result of reading one line.

use crate::dockerfile::ast::{From, Instruction};

/// An instruction, or the `FROM` that opens a stage.
#[derive(Debug)]
pub(in crate::dockerfile) enum Parsed {
    /// `FROM`.
    From(From),
    /// Every other instruction.
    Other(Instruction),
}
