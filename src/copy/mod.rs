//! COPY, ADD and WORKDIR: from selected files to a layer.
//!
//! **Holds.** All decisions are made on trees: [`prepare()`] selects the source files, [`execute()`] decides where they go and what
//! they replace. Nothing is written below a root, so nothing can be written outside one (S-94, S-95); the bytes go from the
//! source directly into the layer.
//! **Order.** `prepare` → key → lookup; only on a miss `complete` and `execute`. If a file is not what was digested for the key
//! when it is read, that is an error (S-93).
//! **Not here.** Patterns and ignore rules: `context`. The format of layers: `layer`.

mod ahead;
mod archive;
mod dest;
mod error;
mod execute;
mod hide;
mod inline;
mod item;
mod layers;
mod note;
mod occupant;
mod owner;
mod place;
mod prepare;
mod remote;
mod unpack;
mod view;
mod workdir;

#[cfg(test)]
mod tests;

pub(crate) use dest::Dest;
pub(crate) use error::Error;
pub(crate) use execute::execute;
pub(crate) use hide::{has_unmapped_owners, hide_ignored};
pub(crate) use layers::{LayerDirs, LayerFiles, LayerTree};
pub(crate) use note::Note;
pub(crate) use occupant::Occupant;
pub(crate) use prepare::{Mounted, Prepared, prepare, whole};
pub(crate) use unpack::{Stream, sniff, unpack};
pub(crate) use workdir::workdir;
