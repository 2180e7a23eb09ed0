//! The outcome of a command that ran.

use super::fallback::Fallback;
use super::seccomp::Notice;
use super::spec::Exit;

/// A command that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What it ran without; to be reported.
    pub fallbacks: Vec<Fallback>,
    /// Its system calls that cannot work on this host; `None` if this kernel cannot report them.
    pub noticed: Option<Vec<Notice>>,
}
