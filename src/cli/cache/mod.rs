//! `kiln cache` and `kiln prune`: what the store keeps to be faster, and getting rid of it.
//!
//! **Holds.** What belongs to named images stays whatever is asked for. A running build keeps everything it uses; the
//! rest goes beside it. Without root, files of a rootless build belong to subordinate ids: then the whole command runs
//! in a user namespace.

mod ls;
mod mounts;
mod prune;

pub(super) use prune::{Scope, run as prune};

use std::path::PathBuf;

use crate::base::fs;
use crate::cache::Local;
use crate::store::{Step, Store, Survey};

use super::Session;
use super::args::{CacheArgs, CacheCommand};
use super::failure::{Done, Failure, Kind};

pub(super) fn run(args: &CacheArgs, session: &mut Session<'_>) -> Done {
    match &args.command {
        CacheCommand::Ls(args) => ls::run(args, session),
        CacheCommand::Prune(args) => prune::run(args, Scope::Cache, session),
        CacheCommand::Mounts(args) => mounts::run(args, session),
    }
}

impl Session<'_> {
    /// Makes sure that we may look at and remove what builds unpacked. `Some(code)`: the command ran elsewhere.
    fn as_owner(&self, store: &Store) -> Result<Option<u8>, Failure> {
        let owned = !fs::list(&store.layers_dir())?.is_empty() || !fs::list(&store.mounts_dir())?.is_empty();
        if owned { self.as_root() } else { Ok(None) }
    }
}

/// Everything in the store, and records that are none.
fn survey(store: &Store) -> Result<(Survey, Vec<PathBuf>), Failure> {
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
