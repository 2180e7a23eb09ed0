//! `kiln cache` and `kiln prune`: what the store keeps to be faster, and getting rid of it.
//!
//! **Holds.** What belongs to named images stays whatever is asked for. A running build keeps everything it uses; the
//! rest goes beside it. Without root, files of a rootless build belong to subordinate ids: then the whole command runs
//! in a user namespace.

mod ls;
mod mounts;
mod prune;
mod survey;

pub(super) use prune::{Scope, run as prune};

use super::args::{CacheArgs, CacheCommand};
use super::failure::Done;
use super::session::Session;

pub(super) fn run(args: &CacheArgs, session: &mut Session<'_>) -> Done {
    match &args.command {
        CacheCommand::Ls(args) => ls::run(args, session),
        CacheCommand::Prune(args) => prune::run(args, Scope::Cache, session),
        CacheCommand::Mounts(args) => mounts::run(args, session),
    }
}
