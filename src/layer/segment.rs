//! Segments: parts of a layer that are compressed on their own and can be reused.
//!
//! **Holds.** A tar stream is cut before entries chosen by their names and sizes (about 1 MiB apart) and every 1 MiB inside a
//! large file, so an edited file changes one segment. Each segment is one gzip member or zstd frame; together they are the
//! blob. A [`SegmentIndex`] lists where each segment lies in a blob.
//! **On disk.** An index is bytes for the caller to store; losing it costs time only.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Segments are this long on average, and exactly this long inside a large file.
pub(super) const TARGET: usize = 1 << 20;
const MIN: usize = TARGET / 8;
pub(super) const MAX: usize = TARGET * 2;

/// Whether a segment that is `len` bytes long ends before the entry at `path` with `size` bytes of content.
///
/// Only the entry itself decides (its chance is its share of a target segment), so streams that differ in one place
/// cut alike everywhere else. A large file always starts a segment: its fixed steps then depend on nothing before it.
pub(super) fn cut_before(len: usize, path: &[u8], size: u64) -> bool {
    if len == 0 {
        return false;
    }
    if size >= TARGET as u64 || len >= MAX {
        return true;
    }
    if len < MIN {
        return false;
    }
    let share = (size + 1024) << 12; // of TARGET, in 1/2^32
    let hash = blake3::hash(path);
    let [a, b, c, d, ..] = *hash.as_bytes();
    u64::from(u32::from_le_bytes([a, b, c, d])) < share
}

/// Names uncompressed bytes together with how they were compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentKey(pub [u8; 32]);

impl SegmentKey {
    /// The key of `bytes` compressed as `method` says.
    pub(super) fn of(method: &str, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("kiln layer segment v1");
        hasher.update(&(method.len() as u64).to_le_bytes());
        hasher.update(method.as_bytes());
        hasher.update(bytes);
        Self(*hasher.finalize().as_bytes())
    }
}

/// One segment of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Names its uncompressed bytes.
    pub key: SegmentKey,
    /// Where its compressed bytes begin in the blob.
    pub offset: u64,
    /// How many compressed bytes there are.
    pub len: u32,
    /// How many bytes they decompress to.
    pub plain_len: u32,
    /// BLAKE3 of the compressed bytes, checked before they are used again.
    pub check: [u8; 32],
}

/// The segments of one blob, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex(pub Vec<Segment>);

const MAGIC: &[u8; 9] = b"kilnseg\0\x01";
const RECORD: usize = 32 + 8 + 4 + 4 + 32;

impl SegmentIndex {
    /// The index as bytes, for [`SegmentIndex::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + self.0.len() * RECORD);
        out.extend_from_slice(MAGIC);
        for s in &self.0 {
            out.extend_from_slice(&s.key.0);
            out.extend_from_slice(&s.offset.to_le_bytes());
            out.extend_from_slice(&s.len.to_le_bytes());
            out.extend_from_slice(&s.plain_len.to_le_bytes());
            out.extend_from_slice(&s.check);
        }
        out
    }

    /// Reads an index back; `None` if these bytes are none of this version's.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let records = bytes.strip_prefix(MAGIC)?;
        if records.len() % RECORD != 0 {
            return None;
        }
        records.chunks_exact(RECORD).map(record).collect::<Option<_>>().map(Self)
    }
}

fn record(bytes: &[u8]) -> Option<Segment> {
    let (key, rest) = bytes.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (plain_len, rest) = rest.split_first_chunk()?;
    Some(Segment {
        key: SegmentKey(*key),
        offset: u64::from_le_bytes(*offset),
        len: u32::from_le_bytes(*len),
        plain_len: u32::from_le_bytes(*plain_len),
        check: *rest.first_chunk()?,
    })
}

/// Where compressed segments of earlier layers can be had.
pub trait SegmentSource: Send + Sync {
    /// Replaces what `out` holds with the compressed bytes of a segment and returns their BLAKE3, if they are there
    /// and intact. `None` merely means compressing again.
    fn get(&self, key: &SegmentKey, out: &mut Vec<u8>) -> Option<[u8; 32]>;
}

/// The segments of a blob on disk.
#[derive(Debug)]
pub struct PreviousBlob {
    blob: File,
    segments: BTreeMap<SegmentKey, Segment>,
}

impl PreviousBlob {
    /// `index` describes `blob`; a wrong one is noticed segment by segment and yields nothing.
    pub fn new(blob: File, index: &SegmentIndex) -> Arc<Self> {
        Arc::new(Self { blob, segments: index.0.iter().map(|s| (s.key, *s)).collect() })
    }
}

impl SegmentSource for PreviousBlob {
    fn get(&self, key: &SegmentKey, out: &mut Vec<u8>) -> Option<[u8; 32]> {
        let segment = self.segments.get(key)?;
        read_segment(&self.blob, segment, out)?;
        Some(segment.check)
    }
}

/// Replaces what `out` holds with a segment of `blob`, if it is there and intact.
pub(super) fn read_segment(blob: &File, segment: &Segment, out: &mut Vec<u8>) -> Option<()> {
    // Segments are cut at 2 MiB and compression adds very little: anything longer is damage.
    if segment.len as usize > 2 * MAX {
        return None;
    }
    out.resize(segment.len as usize, 0);
    blob.read_exact_at(out, segment.offset).ok()?;
    (*blake3::hash(out).as_bytes() == segment.check).then_some(())
}
