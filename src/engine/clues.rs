//! Facts that may explain why a command failed.

use crate::sandbox::ExecObstacle;

use super::input::Input;

/// Facts that may explain a failure; none is certain to be the cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clues {
    /// Optional secrets and agents that were not given.
    pub not_given: Vec<Input>,
    /// The disk that holds the command's root is full.
    pub full: bool,
    /// A file that the command's last output names and that cannot be started, and why.
    pub unstartable: Option<(String, ExecObstacle)>,
}
