//! `kiln manifest`: images of several platforms under one name.
//!
//! **Holds.** A manifest list is an index in the store, under its name; `push`, `tag`, `images` and `rmi` treat it like any
//! image. Its images come from the store or, where the store has none of that name, from their registry; of the latter only
//! manifests and configs are fetched. `imagetools` does the same in registries alone. A push then mounts their layers, or
//! fetches and sends them if they are elsewhere.

mod create;
mod edit;
mod imagetools;
mod inspect;
mod list;
mod push;

use super::args::{ManifestArgs, ManifestCommand};
use super::failure::Done;
use super::session::Session;

pub(super) use imagetools::run as imagetools;

pub(super) fn run(args: &ManifestArgs, session: &mut Session<'_>) -> Done {
    match &args.command {
        ManifestCommand::Create(args) => create::run(args, session),
        ManifestCommand::Annotate(args) => edit::annotate(args, session),
        ManifestCommand::Inspect(args) => inspect::run(args, session),
        ManifestCommand::Push(args) => push::run(args, session),
        ManifestCommand::Remove(args) => edit::remove(args, session),
        ManifestCommand::Rm(args) => edit::rm(args, session),
    }
}
