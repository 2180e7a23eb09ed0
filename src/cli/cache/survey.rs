//! Everything in the store, listed.

use std::path::PathBuf;

use crate::base::fs;
use crate::cache::Local;
use crate::cli::failure::{Failure, Kind};
use crate::cli::session::Session;
use crate::store::{Step, Store, Survey};

impl Session<'_> {
    /// Ensures that unpacked layers can be read and removed. `Some(code)`: the command has run in a user namespace.
    pub(super) fn as_owner(&self, store: &Store) -> Result<Option<u8>, Failure> {
        let owned = !fs::list(&store.layers_dir())?.is_empty() || !fs::list(&store.mounts_dir())?.is_empty();
        if owned { self.as_root() } else { Ok(None) }
    }
}

/// Everything in the store, and the paths of unreadable records.
pub(super) fn survey(store: &Store) -> Result<(Survey, Vec<PathBuf>), Failure> {
    let failed = |e: crate::cache::Error| Failure::from_error(Kind::Build, &e);
    let (mut steps, mut broken) = (Vec::new(), Vec::new());
    for (path, used, record) in Local::new(&store.root().join("cache")).all().map_err(failed)? {
        match record {
            Some(record) => steps.push(Step {
                record: path,
                layer: record.diff_id,
                blobs: record.blobs.values().map(|blob| blob.digest).collect(),
                used,
            }),
            None => broken.push(path),
        }
    }
    Ok((store.survey(steps)?, broken))
}
