//! Layers: entries, trees, changes, tar and compression.
//!
//! **Holds.** An [`Entry`] is a file of a layer, independent of tar and disk. A [`Tree`] is one layer: sorted entries with
//! whiteouts and opaque markers. A [`MergedTree`] is what a chain of layers shows; lookups in it do not touch the disk.
//! **On disk.** `layers/<diff-id>/tree` holds [`Tree::to_bytes`].
//! **Order.** Everywhere: component by component in byte order, so parents come before children and a directory's
//! whole subtree is contiguous.
//! **Not here.** Where blobs and unpacked layers are kept, which layers make a root, what a step may see.

mod ahead;
mod apply;
mod attributes;
mod audit;
mod changes;
mod checked;
mod compress;
mod copy_tree;
mod decompress;
mod delta;
mod diff;
mod disk;
mod entry;
mod error;
mod fill;
mod ledger;
mod leftovers;
mod limits;
mod links;
mod members;
mod merged;
mod origin;
mod owners;
mod parts;
mod patch;
mod pax;
mod pipeline;
mod place;
mod recompress;
mod recut;
mod repack;
mod resume;
mod segment;
mod sequence;
mod sparse;
mod tar_fields;
mod tar_read;
mod tar_write;
mod tree;
mod tree_bytes;
mod walk;
mod whole;
mod writer;
mod xattrs;

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod changes_tests;
#[cfg(test)]
mod patch_tests;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tar_read_tests;
#[cfg(test)]
mod writer_tests;

pub use apply::{Form, read_tree, unpack};
pub(crate) use apply::{read_tree_within, unpack_within};
pub(crate) use audit::audit;
pub use changes::tree_changes;
pub(crate) use changes::{Changes, LowerFiles, digest_of_file, whole_tree};
pub(crate) use checked::{Checked, diff_id_of, verify_diff_id};
pub use compress::Compression;
pub(crate) use copy_tree::keep_counts;
pub use copy_tree::{copy_tree, prepare_upper};
pub(crate) use decompress::Format;
pub use decompress::decompress;
pub(crate) use delta::Delta;
pub(crate) use diff::{Change, Changed, Difference, Side, diff};
pub(crate) use entry::BadPath;
pub use entry::{Entry, EntryKind, Meta, RelPath};
pub use error::Error;
pub(crate) use leftovers::Leftovers;
pub use limits::Limits;
pub(crate) use links::{Links, OnDisk};
pub use merged::MergedTree;
pub(crate) use merged::{MergedEntry, ResolveError};
pub(crate) use owners::id_map_name;
pub(crate) use parts::parts_missing_in;
pub(crate) use patch::patch;
pub(crate) use pipeline::Output;
pub use recompress::recompress;
pub use repack::repack;
pub(crate) use resume::{Before, Marks};
pub use segment::{PreviousBlob, Segment, SegmentIndex, SegmentSource};
pub(crate) use tar_read::{Dialect, TarReader};
pub use tree::Tree;
pub(crate) use tree_bytes::BadTree;
pub(crate) use walk::{Baseline, OverlayAttributes, Walked};
pub(crate) use whole::is_whole;
pub(crate) use writer::Watch;
pub use writer::{LayerWriter, WriteOptions, Written};
