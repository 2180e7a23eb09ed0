//! COPY, ADD and WORKDIR: from selected files to a layer.
//!
//! **Holds.** Everything is decided on trees: which files are meant ([`prepare`]), where they go and what they
//! replace ([`execute`]). Nothing is written below a root, so nothing can be written outside one (S-94, S-95); the
//! bytes go from the context straight into the layer.
//! **Order.** `prepare` → key → lookup; only on a miss `complete` and `execute`. What was digested for the key is what is read later, or
//! it is an error (S-93).
//! **Not here.** What a source means in a tree: `context`. The layer's format: `layer`.

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

pub use dest::Dest;
pub use error::Error;
pub use execute::execute;
pub use hide::{has_strangers, hide_ignored};
pub use layers::{LayerDirs, LayerFiles, LayerTree, Learnt};
pub use note::Note;
pub use occupant::Occupant;
pub use prepare::{Prepared, prepare, whole};
pub use unpack::{Stream, sniff, unpack};
pub use workdir::workdir;
