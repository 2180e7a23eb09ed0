//! Snapshots: layers become the root directories of commands.
//!
//! **Holds.** [`Layers`] keeps the [`Tree`](crate::layer::Tree) of each layer. [`Snapshotter`] unpacks layers into
//! directories, in the form that its method needs: overlayfs, or a copy where that does not work. [`Stack`] has the lower
//! directories of an overlay, [`Prepared`] is a writable root over them.
//! **One result.** A layer's bytes do not depend on the method, on what is cached, or on who builds. So what a root looks like
//! and what changed in it is taken from the merged tree, which has the whole truth; a directory has the bytes, and of the
//! metadata what this host can express. Random histories test this: `tests/it/layers/histories.rs`,
//! `scripts/soak histories COUNT`.
//! **Hard links in copies.** Where a command changes one name of a file that has several in a lower layer, overlayfs copies up
//! that name alone. Copied roots do the same (`sandbox::Watch`, `layer::Links`): without it, package managers that replace
//! files and git object stores would make other layers, and digests would depend on the host. That is worth its code.
//! **Edits.** A layer that differs little from the one that its step made before is made from that one's files (`patched`).
//! **On disk.** `layers/<diff-id>/{fs2,whole-fs2,tree,segments,marks,similar,of-<blob>}`: `fs2-user` where overlayfs keeps its
//! attributes in `user.*`, `fs2-plain` for copies; where only some ids are mapped, the name of the id map is appended. All of
//! it can be derived from blobs, and may be removed while nobody uses it.
//! **Order.** Claim the layer → unpack in scratch → verify the diff-id → rename: parallel steps and processes unpack a layer
//! once, and no lock of this process is held meanwhile. A directory that exists is complete, unless the machine went down before
//! its files were on the disk: one that is older than the machine's start is read once before it is used.
//! **Not here.** Mounting: `sandbox`. What changed in a root: `layer`.

mod arriving;
mod check;
mod error;
mod layers;
mod patched;
mod prepare;
mod probe;
mod snapshotter;
mod stack;

#[cfg(test)]
mod tests;

pub(crate) use arriving::{Arrivals, Arriving};
pub(crate) use error::Error;
pub(crate) use layers::{Layers, MARKS, SEGMENTS, SIMILAR};
pub(crate) use prepare::Prepared;
pub(crate) use probe::{Method, best};
pub(crate) use snapshotter::Snapshotter;
pub use stack::Stack;
