//! Why a user namespace could not be entered.

use std::io;

use super::obstacle::NamespaceObstacle;
use crate::sandbox::hint::Hint;

/// A user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}{}", obstacle.map(|found| format!(": {found}")).unwrap_or_default())]
pub(crate) struct Error {
    /// The action that failed; completes `cannot …`.
    pub what: String,
    /// The error of the system.
    pub source: io::Error,
    /// What refuses it, if that was found.
    pub obstacle: Option<NamespaceObstacle>,
    /// Root lacks capabilities to write the map.
    pub(super) capabilities: bool,
}

impl Error {
    /// `what` failed, perhaps because of a system call filter.
    pub(super) fn new(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let obstacle = source.raw_os_error().and_then(NamespaceObstacle::of_call);
        Self { what: what.into(), source, obstacle, capabilities: false }
    }

    /// `unshare(CLONE_NEWUSER)` failed with `errno`.
    pub(super) fn of_unshare(errno: i32) -> Self {
        let source = io::Error::from_raw_os_error(errno);
        let obstacle = NamespaceObstacle::of_user_namespace(errno);
        Self { what: "create a user namespace".to_owned(), source, obstacle, capabilities: false }
    }

    /// A remedy, if known.
    pub(crate) fn hint(&self) -> Option<Hint> {
        let capabilities = self.capabilities.then_some(Hint::MapCapabilities);
        self.obstacle.map(Hint::Obstacle).or(capabilities)
    }
}
