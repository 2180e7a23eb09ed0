//! Reuse of the unchanged beginning of the previous layer.
//!
//! **Holds.** The [`Marks`] of a layer record, between entries, the entries so far and the state of both digests. If the next
//! layer begins with the same entries, it takes that beginning over: the compressed bytes are copied and the files are not
//! read.
//! **Order.** Entries are the same if their tar headers and content digests are (S-93). Only whole segments are taken over
//! that the new layer would cut in the same way and whose bytes are intact.
//! **On disk.** Bytes for the caller to store; losing them costs time only. A damaged state would give a wrong digest, so the
//! file ends with the BLAKE3 of everything and lengths must agree.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rayon::prelude::*;

use super::segment::{Segment, SegmentIndex, read_segment};
use crate::base::digest::{BlobDigest, HashState, Hasher, Sha256};

/// A place before an entry, where a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of segments before it.
    pub(super) segments: u32,
    /// The number of entries before it.
    pub(super) entries: u32,
    /// BLAKE3 of those: see [`Seen`].
    pub(super) seen: [u8; 32],
    /// SHA-256 of the tar so far.
    pub(super) plain: HashState,
    /// SHA-256 of the blob so far.
    pub(super) blob: HashState,
}

/// The entries so far, as one digest.
#[derive(Clone, Default)]
pub(super) struct Seen {
    hasher: blake3::Hasher,
    /// Not hashed yet: hashing much at once is many times faster.
    waiting: Vec<u8>,
}

impl Seen {
    /// Adds the header of the next entry, which contains its own length.
    pub(super) fn head(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= 64 << 10 {
            self.hash();
        }
    }

    /// Adds the digest of the content, if the entry is a file.
    pub(super) fn content(&mut self, digest: &Sha256) {
        self.waiting.extend_from_slice(&digest.0);
    }

    /// The digest of everything added so far.
    pub(super) fn digest(&mut self) -> [u8; 32] {
        self.hash();
        *self.hasher.finalize().as_bytes()
    }

    fn hash(&mut self) {
        self.hasher.update(&self.waiting);
        self.waiting.clear();
    }
}

/// Places in a layer from which the next layer can continue, if it begins in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub(super) Vec<Mark>);

const MAGIC: &[u8; 10] = b"kilnmarks\x01";
const RECORD: usize = 4 + 4 + 32 + 2 * HashState::LEN;

impl Marks {
    /// The marks of `blob` as bytes, for [`Marks::from_bytes`].
    pub fn to_bytes(&self, blob: BlobDigest) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + 32 + self.0.len() * RECORD + 32);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&blob.0.0);
        for mark in &self.0 {
            out.extend_from_slice(&mark.segments.to_le_bytes());
            out.extend_from_slice(&mark.entries.to_le_bytes());
            out.extend_from_slice(&mark.seen);
            out.extend_from_slice(&mark.plain.0);
            out.extend_from_slice(&mark.blob.0);
        }
        let check = blake3::hash(&out);
        out.extend_from_slice(check.as_bytes());
        out
    }

    /// Reads marks back; `None` if these bytes are damaged, another version's or another blob's.
    pub fn from_bytes(bytes: &[u8], blob: BlobDigest) -> Option<Self> {
        let (body, check) = bytes.split_last_chunk::<32>()?;
        let records = body.strip_prefix(MAGIC)?.strip_prefix(&blob.0.0)?;
        if *blake3::hash(body).as_bytes() != *check || records.len() % RECORD != 0 {
            return None;
        }
        records.chunks_exact(RECORD).map(record).collect::<Option<_>>().map(Self)
    }
}

fn record(bytes: &[u8]) -> Option<Mark> {
    let (segments, rest) = bytes.split_first_chunk()?;
    let (entries, rest) = rest.split_first_chunk()?;
    let (seen, rest) = rest.split_first_chunk()?;
    let (plain, rest) = rest.split_first_chunk()?;
    Some(Mark {
        segments: u32::from_le_bytes(*segments),
        entries: u32::from_le_bytes(*entries),
        seen: *seen,
        plain: HashState(*plain),
        blob: HashState(*rest.first_chunk()?),
    })
}

/// The previous layer: its blob, index and marks.
#[derive(Clone, Debug)]
pub struct Before {
    blob: Arc<File>,
    index: SegmentIndex,
    marks: Marks,
}

/// The beginning of a layer that is to be continued.
pub(super) struct Beginning {
    /// The file that begins with its compressed bytes.
    pub(super) blob: Arc<File>,
    /// The number of these bytes.
    pub(super) len: u64,
    pub(super) plain_len: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) marks: Vec<Mark>,
    pub(super) plain_hash: Hasher,
    pub(super) blob_hash: Hasher,
}

impl Before {
    /// A blob with its index and marks. If they do not belong together, nothing is taken over.
    pub fn new(blob: File, index: SegmentIndex, marks: Marks) -> Self {
        Self { blob: Arc::new(blob), index, marks }
    }

    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks.0
    }

    /// The uncompressed length of the segment that ends at `mark`.
    pub(super) fn last_segment(&self, mark: &Mark) -> Option<usize> {
        Some(self.index.0.get((mark.segments as usize).checked_sub(1)?)?.plain_len as usize)
    }

    /// Everything before mark number `at`, if it is intact.
    pub(super) fn until(&self, at: usize) -> Option<Beginning> {
        let mark = self.marks.0.get(at)?;
        let segments = self.index.0.get(..mark.segments as usize)?;
        let (mut len, mut plain_len) = (0, 0);
        for segment in segments {
            if segment.offset != len {
                return None;
            }
            len += u64::from(segment.len);
            plain_len += u64::from(segment.plain_len);
        }
        if mark.blob.taken() != len || mark.plain.taken() != plain_len {
            return None;
        }
        let (plain_hash, blob_hash) = (Hasher::resume(&mark.plain)?, Hasher::resume(&mark.blob)?);
        let whole = |buffer: &mut Vec<u8>, segment| {
            buffer.clear();
            read_segment(&self.blob, segment, buffer).is_some()
        };
        segments.par_iter().map_init(Vec::new, whole).all(|whole| whole).then(|| Beginning {
            blob: Arc::clone(&self.blob),
            len,
            plain_len,
            segments: segments.to_vec(),
            marks: self.marks.0[..=at].to_vec(),
            plain_hash,
            blob_hash,
        })
    }
}

/// Writes the first `len` bytes of `blob` to `out`.
pub(super) fn copy_first(blob: &File, len: u64, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < len {
        let step = (len - at).min(buffer.len() as u64) as usize;
        blob.read_exact_at(&mut buffer[..step], at)?;
        out.write_all(&buffer[..step])?;
        at += step as u64;
    }
    Ok(())
}
