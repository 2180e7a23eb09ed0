//! Everything in the store, listed.

use crate::base::fs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::session::Session;
use crate::engine::{self, Error};
use crate::store::{Store, Survey};

impl Session<'_> {
    /// Ensures that unpacked layers can be read and removed. `Some(code)`: the command has run in a user namespace.
    pub(in crate::cli) fn as_owner(&self, store: &Store) -> Result<Option<u8>, Failure> {
        let owned = !fs::list(&store.layers_dir())?.is_empty() || !fs::list(&store.mounts_dir())?.is_empty();
        if owned { self.as_root() } else { Ok(None) }
    }
}

/// Everything in the store.
pub(super) fn survey(store: &Store) -> Result<Survey, Failure> {
    engine::survey(store).map_err(|error| match error {
        Error::Store(error) => error.into(),
        error => Failure::from_error(Kind::Build, &error),
    })
}
