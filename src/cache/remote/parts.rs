//! A blob that a cache has in parts: as ranges of other blobs, in order.
//!
//! **Holds.** Ranges are always of blobs that are stored themselves: a layer that differs from the one before, which differed
//! from one before that, is described without them, and reading it follows no chain.

use std::io;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::{BlobDigest, Sha256};
use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::Descriptor;

/// The media type of blobs of which only the bytes matter.
pub(super) const BYTES: &str = "application/octet-stream";

/// Bytes as a blob.
#[derive(Clone)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl BlobSource for Bytes {
    fn open(&self, _: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }

    fn kept(&self) -> Option<Box<dyn BlobSource + Send>> {
        Some(Box::new(self.clone()))
    }
}

/// A digest in few bytes.
pub(super) fn short(digest: Sha256) -> String {
    URL_SAFE_NO_PAD.encode(digest.0)
}

/// The digest that [`short`] wrote.
pub(super) fn from_short(text: &str) -> Option<Sha256> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Sha256)
}

/// A blob that is stored as it is. In an entry: `<digest>.<size>`, the digest in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
}

impl Stored {
    /// The blob of a descriptor.
    pub(super) fn of(blob: &Descriptor) -> Self {
        Self { digest: blob.digest, size: blob.size }
    }

    /// As a descriptor.
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor::new(BYTES, self.digest, self.size)
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{}", short(self.digest.0), self.size))
    }
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let stored = || {
            let (digest, size) = text.split_once('.')?;
            Some(Self { digest: BlobDigest(from_short(digest)?), size: size.parse().ok()? })
        };
        stored().ok_or_else(|| serde::de::Error::custom("a blob is malformed"))
    }
}

/// What a blob is put together from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// The blobs that are stored.
    sources: Vec<Stored>,
    ranges: Vec<Part>,
}

/// A range of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, u64, u64)", into = "(usize, u64, u64)")]
struct Part {
    source: usize,
    offset: u64,
    len: u64,
}

impl From<(usize, u64, u64)> for Part {
    fn from((source, offset, len): (usize, u64, u64)) -> Self {
        Self { source, offset, len }
    }
}

impl From<Part> for (usize, u64, u64) {
    fn from(part: Part) -> Self {
        (part.source, part.offset, part.len)
    }
}

impl Parts {
    /// All of a blob that is stored.
    pub(super) fn whole(blob: Stored) -> Self {
        Self { sources: vec![blob], ranges: vec![Part { source: 0, offset: 0, len: blob.size }] }
    }

    /// Adds a range at the end.
    pub(super) fn push(&mut self, blob: Stored, range: Range<u64>) {
        let known = self.sources.iter().position(|source| *source == blob);
        let source = known.unwrap_or_else(|| {
            self.sources.push(blob);
            self.sources.len() - 1
        });
        match self.ranges.last_mut() {
            Some(last) if last.source == source && last.offset + last.len == range.start => {
                last.len += range.end - range.start;
            }
            _ => self.ranges.push(Part { source, offset: range.start, len: range.end - range.start }),
        }
    }

    /// The blobs that must be stored.
    pub(super) fn sources(&self) -> &[Stored] {
        &self.sources
    }

    /// The ranges, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Stored, Range<u64>)> {
        self.ranges.iter().map(|part| (self.sources[part.source], part.offset..part.offset + part.len))
    }

    /// What a range of the blob is put together from.
    pub(super) fn within(&self, wanted: Range<u64>) -> impl Iterator<Item = (Stored, Range<u64>)> {
        let mut end = 0;
        self.ranges().filter_map(move |(blob, range)| {
            let start = end;
            end += range.end - range.start;
            let (from, to) = (wanted.start.max(start), wanted.end.min(end));
            (from < to).then(|| (blob, range.start + (from - start)..range.start + (to - start)))
        })
    }

    /// Err: why no blob of `size` bytes can be put together so.
    pub(super) fn check(&self, size: u64) -> Result<(), String> {
        let mut left = size;
        for part in &self.ranges {
            let source = self.sources.get(part.source).ok_or("it has a range of no blob")?;
            let end = part.offset.checked_add(part.len).filter(|end| part.len > 0 && *end <= source.size);
            end.ok_or("it has a range outside of its blob")?;
            left = left.checked_sub(part.len).ok_or("its ranges are longer than the layer")?;
        }
        if left == 0 { Ok(()) } else { Err("its ranges are shorter than the layer".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(content: &[u8]) -> Stored {
        Stored { digest: BlobDigest(Sha256::of(content)), size: content.len() as u64 }
    }

    #[test]
    fn ranges_merge_and_are_cut_out_of_each_other() {
        let (old, pack) = (blob(b"0123456789"), blob(b"xyz"));
        let mut parts = Parts::default();
        for (source, range) in [(old, 0..2), (old, 2..4), (pack, 0..3), (old, 6..8), (old, 8..10)] {
            parts.push(source, range);
        }
        let all = [(old, 0..4), (pack, 0..3), (old, 6..10)];
        assert_eq!(parts.ranges().collect::<Vec<_>>(), all);
        assert_eq!(parts.sources(), [old, pack]);
        assert_eq!(parts.check(11), Ok(()));
        assert_eq!(parts.within(0..11).collect::<Vec<_>>(), all);
        assert_eq!(parts.within(3..5).collect::<Vec<_>>(), [(old, 3..4), (pack, 0..1)]);
        assert_eq!(parts.within(8..9).collect::<Vec<_>>(), [(old, 7..8)]);
        let text = serde_json::to_string(&parts).expect("JSON");
        assert_eq!(serde_json::from_str::<Parts>(&text).expect("parts"), parts);
    }

    #[test]
    fn ranges_that_do_not_fit_are_refused() {
        let old = blob(b"0123456789");
        let parts = |source, offset, len| Parts { sources: vec![old], ranges: vec![Part { source, offset, len }] };
        assert_eq!(parts(0, 0, 10).check(10), Ok(()));
        for (wrong, why) in [
            (parts(1, 0, 10), "no blob"),
            (parts(0, 1, 10), "outside"),
            (parts(0, u64::MAX, 10), "outside"),
            (parts(0, 0, 0), "outside"),
            (parts(0, 0, 9), "shorter"),
        ] {
            assert!(wrong.check(10).is_err_and(|text| text.contains(why)), "{why}");
        }
        assert!(parts(0, 0, 10).check(9).is_err_and(|text| text.contains("longer")));
        assert!(serde_json::from_str::<Stored>("\"AAAA.5\"").is_err());
    }
}
