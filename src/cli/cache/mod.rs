//! `kiln cache` and `kiln prune`: listing, explaining and removing the build cache.
//!
//! **Holds.** Blobs of tagged images always stay, and so does what a running build uses. A plain user's unpacked layers
//! belong to subordinate ids, so the whole command runs in a user namespace.

mod explain;
mod ls;
mod mounts;
mod prune;
mod survey;

pub(super) use ls::run as du;
pub(super) use prune::{Scope, run as prune};

use super::args::{CacheArgs, CacheCommand};
use super::failure::Done;
use super::session::Session;

pub(super) fn run(args: &CacheArgs, session: &mut Session<'_>) -> Done {
    match &args.command {
        CacheCommand::Explain(args) => explain::run(args, session),
        CacheCommand::Ls(args) => ls::run(args, session),
        CacheCommand::Prune(args) => prune::run(args, Scope::Cache, session),
        CacheCommand::Mounts(args) => mounts::run(args, session),
    }
}
