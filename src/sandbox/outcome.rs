//! What became of a command that ran.

use super::fallback::Fallback;
use super::seccomp::Notice;
use super::spec::Exit;

/// A command that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What it ran without. To be announced.
    pub fallbacks: Vec<Fallback>,
    /// Calls of it that cannot work here; `None` if this kernel cannot report them.
    pub noticed: Option<Vec<Notice>>,
}
