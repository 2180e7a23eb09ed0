//! A new layer in segments, and what a cache lacks of it.
//!
//! **Holds.** Two layers are compared by the checksums of their compressed segments. What the earlier one has is taken from
//! there; the rest goes into one pack.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::base::digest::{BlobDigest, Hasher};
use crate::base::sparse::SparseRead;
use crate::base::verify::Verified;
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::Descriptor;

use super::EntryName;
use super::parts::{Parts, Stored};

/// A smaller layer is always sent whole.
pub(crate) const MIN_CUT: u64 = 4 << 20;

/// The BLAKE3 checksum of the bytes of a segment, and their number.
type Segment = ([u8; 32], u32);

/// The segments of a blob, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segments(Vec<Segment>);

const MAGIC: &[u8; 8] = b"kilncut\x01";
const RECORD: usize = 32 + 4;

/// A piece of a new blob.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// This range of the earlier one.
    Same(Range<u64>),
    /// This range of its own bytes.
    New(Range<u64>),
}

impl Segments {
    /// Segments with these checksums and lengths.
    pub(crate) fn new(segments: impl IntoIterator<Item = ([u8; 32], u32)>) -> Self {
        Self(segments.into_iter().collect())
    }

    /// The bytes to store.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let record = |(check, len): &Segment| [&check[..], &len.to_le_bytes()].concat();
        MAGIC.iter().copied().chain(self.0.iter().flat_map(record)).collect()
    }

    /// What [`Segments::to_bytes`] wrote; `None` if these are no such bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let records = bytes.strip_prefix(MAGIC)?;
        let record = |bytes: &[u8]| {
            let (check, len) = bytes.split_first_chunk()?;
            Some((*check, u32::from_le_bytes(*len.first_chunk()?)))
        };
        records
            .len()
            .is_multiple_of(RECORD)
            .then(|| records.chunks_exact(RECORD).map(record).collect::<Option<_>>())?
            .map(Self)
    }

    fn size(&self) -> u64 {
        self.0.iter().map(|(_, len)| u64::from(*len)).sum()
    }

    /// Where each segment lies.
    fn placed(&self) -> impl Iterator<Item = (Segment, Range<u64>)> {
        let mut end = 0;
        self.0.iter().map(move |segment| {
            let start = end;
            end += u64::from(segment.1);
            (*segment, start..end)
        })
    }

    /// The pieces of this blob, of which `before` has some.
    fn pieces(&self, before: &Self) -> Vec<Piece> {
        let old: Vec<(Segment, Range<u64>)> = before.placed().collect();
        let by_check: BTreeMap<Segment, usize> =
            old.iter().enumerate().rev().map(|(at, (key, _))| (*key, at)).collect();
        let (mut pieces, mut next) = (Vec::new(), 0);
        for (segment, own) in self.placed() {
            // Of equal segments, the one that follows the last makes the longer range.
            let follows = old.get(next).is_some_and(|(key, _)| *key == segment);
            let found = if follows { Some(next) } else { by_check.get(&segment).copied() };
            let piece = match found {
                Some(at) => {
                    next = at + 1;
                    Piece::Same(old[at].1.clone())
                }
                None => {
                    // It may have taken the place of one.
                    next += 1;
                    Piece::New(own)
                }
            };
            match (pieces.last_mut(), &piece) {
                (Some(Piece::Same(last)), Piece::Same(more)) | (Some(Piece::New(last)), Piece::New(more))
                    if last.end == more.start =>
                {
                    last.end = more.end;
                }
                _ => pieces.push(piece),
            }
        }
        pieces
    }
}

/// A new layer in segments.
pub(crate) struct Cut {
    /// The entry that says which layer was made last in the same place.
    pub(crate) latest: EntryName,
    /// Its segments.
    pub(crate) segments: Segments,
    /// The file with its blob.
    pub(crate) content: Arc<File>,
}

/// The new bytes of a layer: a blob, and the ranges of the layer that it has.
pub(super) struct Pack {
    pub(super) blob: Stored,
    pub(super) bytes: Ranges,
}

impl Cut {
    /// What the blob of `size` bytes is put together from, if the cache has `before`, put together as these parts say.
    /// `None`: they have too little in common.
    pub(super) fn over(
        &self,
        size: u64,
        (before, parts): (&Segments, &Parts),
    ) -> io::Result<Option<(Parts, Option<Pack>)>> {
        let pieces = self.segments.pieces(before);
        let new = |piece: &Piece| if let Piece::New(range) = piece { Some(range.clone()) } else { None };
        let ranges: Vec<Range<u64>> = pieces.iter().filter_map(new).collect();
        let length: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if length > size / 2
            || self.segments.size() != size
            || parts.check(before.size()).is_err()
            || !self.is_sound()?
        {
            return Ok(None);
        }
        let pack = if ranges.is_empty() { None } else { Some(Pack::of(&self.content, ranges)?) };
        let (mut made, mut packed) = (Parts::default(), 0);
        for piece in pieces {
            match (piece, &pack) {
                (Piece::Same(range), _) => parts.within(range).for_each(|(blob, range)| made.push(blob, range)),
                (Piece::New(range), Some(pack)) => {
                    let end = packed + (range.end - range.start);
                    made.push(pack.blob, packed..end);
                    packed = end;
                }
                (Piece::New(_), None) => unreachable!("new bytes are in a pack"),
            }
        }
        Ok(Some((made, pack)))
    }

    /// All of the content, as a blob.
    pub(super) fn whole(&self, size: u64) -> Ranges {
        Ranges { file: Arc::clone(&self.content), ranges: std::iter::once(0..size).collect() }
    }

    /// Whether the segments are those of the content.
    fn is_sound(&self) -> io::Result<bool> {
        let mut buffer = Vec::new();
        for ((check, len), range) in self.segments.placed() {
            buffer.resize(len as usize, 0);
            self.content.read_exact_at(&mut buffer, range.start)?;
            if *blake3::hash(&buffer).as_bytes() != check {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Pack {
    fn of(file: &Arc<File>, ranges: Vec<Range<u64>>) -> io::Result<Self> {
        let bytes = Ranges { file: Arc::clone(file), ranges };
        let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 256 << 10]);
        let mut reader = bytes.reader();
        loop {
            let n = reader.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            size += n as u64;
        }
        Ok(Self { blob: Stored { digest: BlobDigest(hasher.finish()), size }, bytes })
    }
}

/// Some ranges of a file, one after the other, as a blob.
#[derive(Clone)]
pub(super) struct Ranges {
    file: Arc<File>,
    ranges: Vec<Range<u64>>,
}

impl Ranges {
    fn reader(&self) -> RangesReader {
        RangesReader { file: Arc::clone(&self.file), ranges: self.ranges.clone().into_iter(), now: 0..0 }
    }
}

impl BlobSource for Ranges {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        Ok(Box::new(Verified::new(self.reader(), blob.digest.0, blob.size)))
    }

    fn kept(&self) -> Option<Box<dyn BlobSource + Send>> {
        Some(Box::new(self.clone()))
    }
}

struct RangesReader {
    file: Arc<File>,
    ranges: std::vec::IntoIter<Range<u64>>,
    now: Range<u64>,
}

impl SparseRead for RangesReader {}

impl Read for RangesReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.ranges.next() {
                Some(range) => self.now = range,
                None => return Ok(0),
            }
        }
        let most = usize::try_from(self.now.end - self.now.start).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.read_at(&mut buf[..most], self.now.start)?;
        self.now.start += n as u64;
        if n == 0 && most > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(n) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::base::digest::{Sha256, StepKey};

    /// A file of these segments.
    fn cut(segments: &[&[u8]]) -> (Cut, u64) {
        let mut file = tempfile::tempfile().expect("a file");
        segments.iter().for_each(|bytes| file.write_all(bytes).expect("write"));
        let sums = Segments::new(segments.iter().map(|bytes| (*blake3::hash(bytes).as_bytes(), bytes.len() as u32)));
        let latest = EntryName::Slot(StepKey(Sha256::of(b"slot")));
        let size = segments.iter().map(|bytes| bytes.len() as u64).sum();
        (Cut { latest, segments: sums, content: Arc::new(file) }, size)
    }

    fn blob(segments: &[&[u8]]) -> Stored {
        let bytes = segments.concat();
        Stored { digest: BlobDigest(Sha256::of(&bytes)), size: bytes.len() as u64 }
    }

    fn read(ranges: &Ranges) -> Vec<u8> {
        let mut bytes = Vec::new();
        ranges.reader().read_to_end(&mut bytes).expect("read");
        bytes
    }

    #[test]
    fn changed_segments_go_into_one_pack() {
        let old: &[&[u8]] = &[b"aaaa", b"bb", b"cccccc", b"bb", b"dddd", b"eeee"];
        let new: &[&[u8]] = &[b"aaaa", b"bb", b"XXX", b"bb", b"dddd", b"Y", b"eeee"];
        let ((before, _), (cut, size)) = (cut(old), cut(new));
        let whole = Parts::whole(blob(old));
        let (parts, pack) = cut.over(size, (&before.segments, &whole)).expect("read").expect("much in common");
        let pack = pack.expect("new bytes");
        assert_eq!(read(&pack.bytes), b"XXXY");
        assert_eq!(pack.blob, blob(&[b"XXXY"]));
        let (was, now) = (blob(old), pack.blob);
        let want = [(was, 0..6), (now, 0..3), (was, 12..18), (now, 3..4), (was, 18..22)];
        assert_eq!(parts.ranges().collect::<Vec<_>>(), want);
        assert_eq!(parts.check(size), Ok(()));

        // The next layer refers to what is stored, not to this one.
        let newer: &[&[u8]] = &[b"aaaa", b"bb", b"XXX", b"bb", b"Z", b"Y", b"eeee"];
        let (next, size) = super::tests::cut(newer);
        let (parts, pack) = next.over(size, (&cut.segments, &parts)).expect("read").expect("much in common");
        let pack = pack.expect("new bytes").blob;
        let want = [(was, 0..6), (now, 0..3), (was, 12..14), (pack, 0..1), (now, 3..4), (was, 18..22)];
        assert_eq!(parts.ranges().collect::<Vec<_>>(), want);
        // Nothing new needs no pack.
        let (_, pack) = next.over(size, (&next.segments, &parts)).expect("read").expect("all in common");
        assert!(pack.is_none());
    }

    #[test]
    fn layers_with_little_in_common_are_not_cut() {
        let (before, _) = cut(&[b"aaaa", b"bbbb"]);
        let whole = Parts::whole(blob(&[b"aaaa", b"bbbb"]));
        let over = |segments: &[&[u8]]| {
            let (cut, size) = cut(segments);
            cut.over(size, (&before.segments, &whole)).expect("read").is_some()
        };
        assert!(over(&[b"aaaa", b"XXXX"]));
        assert!(!over(&[b"aaaa", b"XXXXX"]));
        // An index of another blob.
        let (mut wrong, size) = cut(&[b"aaaa", b"bbbc"]);
        wrong.segments = before.segments.clone();
        assert!(wrong.over(size, (&before.segments, &whole)).expect("read").is_none());
        // Parts of another length than the segments.
        let (same, size) = cut(&[b"aaaa", b"bbbb"]);
        let short = Parts::whole(blob(&[b"aaaa"]));
        assert!(same.over(size, (&before.segments, &short)).expect("read").is_none());
    }

    #[test]
    fn equal_segments_make_one_range() {
        let zeros: &[&[u8]] = &[b"a", b"0", b"0", b"0", b"b", b"0", b"c"];
        let ((before, _), (now, _)) = (cut(zeros), cut(&[b"a", b"0", b"0", b"0", b"b", b"0", b"X"]));
        assert_eq!(now.segments.pieces(&before.segments), [Piece::Same(0..6), Piece::New(6..7)]);
        let bytes = now.segments.to_bytes();
        assert_eq!(Segments::from_bytes(&bytes), Some(now.segments));
        for at in 0..bytes.len() {
            let cut = Segments::from_bytes(&bytes[..at]);
            assert!(cut.is_none() || (at - MAGIC.len()).is_multiple_of(RECORD));
        }
    }
}
