//! A layer's blob in another compression.
//!
//! **Holds.** The tar stays the same, and is cut where the writer would cut it: a layer that kiln wrote comes out as if it had
//! been written in the other compression.

use super::decompress::decompress;
use super::error::Error;
use super::limits::Limits;
use super::pipeline::Output;
use super::recut::{Passage, recut};
use super::segment::SegmentIndex;
use super::tar_read::Dialect;
use super::writer::WriteOptions;
use crate::base::digest::{BlobDigest, DiffId};
use crate::base::sparse::SparseRead;

/// A layer that was compressed again.
#[derive(Clone, Debug)]
pub struct Recompressed {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Digest of the bytes that were written.
    pub blob: BlobDigest,
    /// How many bytes that were.
    pub size: u64,
    /// How long the tar is.
    pub plain_size: u64,
    /// The OCI media type.
    pub media_type: &'static str,
    /// Where which compressed segment lies.
    pub segments: SegmentIndex,
}

/// Writes the layer `diff_id`, of which `blob` is one compressed form, to `out` in another.
///
/// Ok: `out` has taken every byte of it, and `blob` was that layer.
pub fn recompress<W: Output>(
    blob: impl SparseRead + Send,
    diff_id: DiffId,
    out: W,
    options: &WriteOptions,
) -> Result<(W, Recompressed), Error> {
    let limits = Limits::default();
    let (_, plain) = decompress(blob, &limits).map_err(Error::Stream)?;
    let passage = Passage { dialect: Dialect::Layer, limits, options, expand: false };
    let done = recut(plain, out, &passage, |_| Ok(()))?;
    if done.diff_id != diff_id {
        return Err(Error::DiffId { want: diff_id, got: done.diff_id });
    }
    let recompressed = Recompressed {
        diff_id,
        blob: done.blob,
        size: done.size,
        plain_size: done.plain_size,
        media_type: options.compression.media_type(),
        segments: done.segments,
    };
    Ok((done.out, recompressed))
}
