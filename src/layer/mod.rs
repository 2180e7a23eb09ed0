//! Trees, changes and tar: what a layer is.
//!
//! **Holds.** An [`Entry`] is one file's identity, the neutral form between tar, disk and tree. A [`Tree`] is one
//! layer: sorted entries with whiteouts and opaque markers. A [`MergedTree`] is what a chain of layers looks like
//! from above; it answers lookups without touching a file.
//! **On disk.** `layers/<diff-id>/tree` holds [`Tree::to_bytes`].
//! **Order.** Everywhere: component by component in byte order, so parents come before children and a directory's
//! whole subtree is contiguous.
//! **Not here.** Where blobs and unpacked layers are kept, which layers make a root, what a step may see.

pub mod apply;
pub mod changes;
pub mod compress;
pub mod copy_tree;
pub mod decompress;
pub mod diff;
pub mod entry;
pub mod error;
pub mod limits;
pub mod merged;
pub mod recompress;
pub mod segment;
pub mod tar_read;
pub mod tree;
pub mod whole;
pub mod writer;
pub mod xattrs;

mod ahead;
mod attributes;
mod checked;
mod disk;
mod fill;
mod ledger;
mod links;
mod members;
mod origin;
mod owners;
mod pax;
mod pipeline;
mod place;
mod recut;
mod repack;
mod resume;
mod sparse;
mod tar_write;
mod tree_bytes;
mod walk;

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod changes_tests;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tar_read_tests;
#[cfg(test)]
mod writer_tests;

pub use apply::{Form, read_tree, read_tree_within, unpack, unpack_within};
pub use attributes::Attributes;
pub use changes::{Changes, LowerFiles, digest_of_file, overlay_changes, tree_changes, whole_tree};
pub use checked::{Checked, diff_id_of};
pub use compress::Compression;
pub use copy_tree::{copy_tree, keep_counts, prepare_upper};
pub use decompress::{Format, decompress};
pub use diff::{Change, Changed, Difference, Side, diff};
pub use entry::{BadPath, Entry, Kind, Meta, RelPath};
pub use error::{DAMAGED, Error};
pub use limits::Limits;
pub use links::{Links, OnDisk};
pub use merged::{Found, MergedTree, ResolveError};
pub use owners::id_map_name;
pub use pipeline::Output;
pub use recompress::{Recompressed, recompress};
pub use repack::{Repacked, repack};
pub use resume::{Before, Marks};
pub use segment::{PreviousBlob, Segment, SegmentIndex, SegmentKey, SegmentSource};
pub use tar_read::{Dialect, TarReader};
pub use tree::{BadTree, Tree};
pub use walk::{Baseline, OverlayAttributes, Walked};
pub use whole::is_whole;
pub use writer::{LayerWriter, Watch, WriteOptions, Written};
