//! Layers → roots.
//!
//! **Holds.** [`Layers`] keeps the [`Tree`](crate::layer::Tree) of each layer. [`Snapshotter`] unpacks layers into
//! directories, in the form that its method needs: overlayfs, or a copy where that does not work. [`Stack`] has the lower
//! directories of an overlay, [`Prepared`] is a writable root over them.
//! **One file system.** What a step sees, what its layer says and what the next build finds are the same: whatever is
//! cached, whoever builds, overlay or copy. A layer's tree has all of the truth; a directory has the bytes, and of the rest
//! what this host can express. So what a root looks like and what changed in it is asked of the merged tree. Random
//! histories are held to this: `tests/it/layers/histories.rs`, `scripts/soak histories COUNT`.
//! **On disk.** `layers/<diff-id>/{fs2,whole-fs2,tree,segments,marks,of-<blob>}` (`fs2-user` where overlayfs keeps its attributes in
//! `user.*`, `fs2-plain` where there is no overlayfs; with a name of the id map behind it where that does not have every
//! id); everything there can be derived from blobs, or only saves work, and
//! may be removed while nobody uses it.
//! **Order.** Claim the layer → unpack in scratch → verify the diff-id → rename: parallel steps and processes unpack a layer
//! once. No lock of this process is held meanwhile. A directory that exists is whole, unless the machine went
//! down before its files were on the disk: what is older than the machine's start is read once before it is used.
//! **Not here.** Mounting: the sandbox mounts in a namespace of its own. What changed in a root: `layer`.

mod error;
mod layers;
mod prepare;
mod probe;
mod snapshotter;
mod stack;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use layers::Layers;
pub use prepare::Prepared;
pub use probe::{Method, best, probe};
pub use snapshotter::Snapshotter;
pub use stack::Stack;
