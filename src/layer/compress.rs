//! Compression of one segment.
//!
//! **Holds.** The bytes depend on the segment and the [`Compression`] alone. `pipeline` decides which thread does what.

use std::io;

use super::segment::{Segment, SegmentKey, SegmentSource};

/// How a layer blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// One gzip member per segment: what every registry and runtime takes.
    Gzip {
        /// 1 to 12.
        level: i32,
    },
    /// One zstd frame per segment: faster and smaller.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
    /// None.
    Uncompressed,
}

impl Default for Compression {
    /// Gzip at a level that is as small as zlib's default and twice as fast.
    fn default() -> Self {
        Self::Gzip { level: 4 }
    }
}

impl Compression {
    /// The OCI media type of such a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd { .. } => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Uncompressed => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// Names the compressed form exactly: equal text and equal bytes in, equal bytes out.
    pub fn method(self) -> String {
        match self {
            Self::Gzip { level } => format!("gzip libdeflate-1 dense-stored {level}"),
            Self::Zstd { level } => format!("zstd libzstd-{} {level}", zstd::zstd_safe::version_number()),
            Self::Uncompressed => "plain".to_owned(),
        }
    }
}

/// A compressed segment.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    pub(super) segment: Segment,
    /// It was copied from an earlier layer.
    pub(super) reused: bool,
}

/// Compresses segments, one at a time.
pub(super) struct Codec {
    method: String,
    kind: CodecKind,
}

enum CodecKind {
    Gzip(Box<Gzip>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Plain,
}

impl Codec {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        let kind = match compression {
            Compression::Gzip { level } => CodecKind::Gzip(Box::new(Gzip::new(level)?)),
            Compression::Zstd { level } => CodecKind::Zstd(Box::new(zstd::bulk::Compressor::new(level)?)),
            Compression::Uncompressed => CodecKind::Plain,
        };
        Ok(Self { method: compression.method(), kind })
    }

    /// The compressed form of `plain`, copied from an earlier layer if it has it. `out` is memory to use again: it keeps what
    /// it held until that is overwritten, because clearing it first would write every byte twice.
    pub(super) fn run(
        &mut self,
        plain: &[u8],
        previous: Option<&dyn SegmentSource>,
        mut out: Vec<u8>,
    ) -> io::Result<Compressed> {
        let mut segment =
            Segment { key: SegmentKey([0; 32]), offset: 0, len: 0, plain_len: plain.len() as u32, check: [0; 32] };
        if matches!(self.kind, CodecKind::Plain) {
            out.clear();
            out.extend_from_slice(plain);
            segment.len = segment.plain_len;
            segment.check = *blake3::hash(plain).as_bytes();
            return Ok(Compressed { bytes: out, segment, reused: false });
        }
        segment.key = SegmentKey::of(&self.method, plain);
        let known = previous.and_then(|p| p.get(&segment.key, &mut out));
        if known.is_none() {
            self.compress(plain, &mut out)?;
        }
        segment.len = u32::try_from(out.len()).map_err(io::Error::other)?;
        segment.check = known.unwrap_or_else(|| *blake3::hash(&out).as_bytes());
        Ok(Compressed { bytes: out, segment, reused: known.is_some() })
    }

    fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.kind {
            CodecKind::Gzip(gzip) => gzip.compress(plain, out),
            CodecKind::Zstd(compressor) => {
                out.clear();
                out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
                compressor.compress_to_buffer(plain, out).map(drop)
            }
            CodecKind::Plain => {
                out.clear();
                out.extend_from_slice(plain);
                Ok(())
            }
        }
    }
}

/// Bytes that are sampled to tell whether a segment is worth compressing.
const SAMPLE: usize = 32 << 10;
/// The size of the pieces of a sample.
const PIECE: usize = 2 << 10;

/// Makes gzip members. Data that is dense already (archives, pictures, packages) is stored: compressing it would take the most
/// time and save nothing.
struct Gzip {
    wanted: libdeflater::Compressor,
    /// Made for the first segment that is long enough to be sampled.
    dense: Option<Dense>,
}

/// Finds and stores dense segments.
struct Dense {
    fast: libdeflater::Compressor,
    none: libdeflater::Compressor,
    sample: Vec<u8>,
    scratch: Vec<u8>,
}

/// A gzip compressor of `level`, which is 0 to 12.
fn compressor(level: i32) -> io::Result<libdeflater::Compressor> {
    let level = libdeflater::CompressionLvl::new(level)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "gzip level must be 1 to 12"))?;
    Ok(libdeflater::Compressor::new(level))
}

impl Gzip {
    fn new(level: i32) -> io::Result<Self> {
        Ok(Self { wanted: compressor(level)?, dense: None })
    }

    fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let compressor = match self.dense(plain)? {
            Some(dense) => &mut dense.none,
            None => &mut self.wanted,
        };
        out.resize(compressor.gzip_compress_bound(plain.len()), 0);
        let len = compressor.gzip_compress(plain, out).map_err(io::Error::other)?;
        out.truncate(len);
        Ok(())
    }

    /// What stores `plain`, if it is dense.
    fn dense(&mut self, plain: &[u8]) -> io::Result<Option<&mut Dense>> {
        if plain.len() < 4 * SAMPLE {
            return Ok(None);
        }
        let dense = match &mut self.dense {
            Some(dense) => dense,
            none => none.insert(Dense::new()?),
        };
        Ok(dense.has(plain)?.then_some(dense))
    }
}

impl Dense {
    fn new() -> io::Result<Self> {
        let mut fast = compressor(1)?;
        let scratch = vec![0; fast.deflate_compress_bound(SAMPLE)];
        Ok(Self { fast, none: compressor(0)?, sample: Vec::new(), scratch })
    }

    /// Whether a sample from all over `plain` hardly shrinks. The bytes alone decide.
    fn has(&mut self, plain: &[u8]) -> io::Result<bool> {
        self.sample.clear();
        let stride = plain.len() / (SAMPLE / PIECE);
        for start in (0..SAMPLE / PIECE).map(|i| i * stride) {
            self.sample.extend_from_slice(&plain[start..start + PIECE]);
        }
        let len = self.fast.deflate_compress(&self.sample, &mut self.scratch).map_err(io::Error::other)?;
        Ok(len > SAMPLE / 100 * 98)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dense_segments_are_stored() {
        let mut state = 1u64;
        let mut random = |len: usize| -> Vec<u8> {
            (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect()
        };
        let text = |len: usize| b"some words again and again ".iter().copied().cycle().take(len).collect::<Vec<u8>>();
        let dense = random(1 << 20);
        let half = [random(512 << 10), text(512 << 10)].concat();
        let mut gzip = Gzip::new(4).unwrap();
        for (plain, below, stored) in [
            (dense.clone(), (1 << 20) + 2000, true),
            (dense[..100 << 10].to_vec(), 101 << 10, false),
            (half, 600 << 10, false),
            (text(1 << 20), 20 << 10, false),
        ] {
            assert_eq!(gzip.dense(&plain).unwrap().is_some(), stored);
            let mut packed = Vec::new();
            gzip.compress(&plain, &mut packed).unwrap();
            assert!(packed.len() < below, "{} bytes", packed.len());
            let mut back = Vec::new();
            io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut back).unwrap();
            assert!(back == plain);
        }
        assert!(Gzip::new(13).is_err());
    }
}
