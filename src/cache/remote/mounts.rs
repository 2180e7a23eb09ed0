//! Which cache mounts of RUN a shared cache holds.

use std::collections::BTreeSet;

/// The cache mounts that are written to a shared cache, or restored from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// Those with these ids.
    Ids(BTreeSet<String>),
    /// All.
    All,
}

impl Default for Mounts {
    fn default() -> Self {
        Self::Ids(BTreeSet::new())
    }
}

impl Mounts {
    /// Whether a mount with this id is one of them.
    pub(crate) fn has(&self, id: &str) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(id),
            Self::All => true,
        }
    }
}
