//! Compressed streams, recognised by their first bytes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::TooMuch;
use super::limits::Limits;
use super::members::{Members, Window};
use crate::base::sparse::{Dense, SparseRead};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// No known compression.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// zstd, one or more frames.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Format {
    /// The format of a stream that begins with `head`; six bytes are enough.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// Decompresses `from`, whatever the compression. A stream that ends early is an error. What follows a gzip stream is read to
/// its end and ignored, so that a digest over the compressed bytes is complete (S-40). Exceeding `limits` is an error.
///
/// A gzip member or zstd frame of zeros is decompressed once; equal ones that follow are reported as
/// [`SparseRead::zeros`] (N-5).
pub fn decompress<'a>(
    from: impl SparseRead + Send + 'a,
    limits: &Limits,
) -> io::Result<(Format, Box<dyn SparseRead + Send + 'a>)> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut from = Window::new(Counted { inner: from, taken: Arc::clone(&taken) });
    // A pipe may return one byte at a time.
    let format = Format::of(from.peek(6)?);
    let inner: Box<dyn SparseRead + Send + 'a> = match format {
        Format::Plain => Box::new(from),
        Format::Gzip => Box::new(Members::gzip(from)),
        Format::Zstd => Box::new(Members::zstd(from, limits.window_log)?),
        Format::Bzip2 => Box::new(Dense(bzip2::bufread::MultiBzDecoder::new(from))),
        Format::Xz => {
            let memory = 1u64 << limits.window_log;
            let stream = liblzma::stream::Stream::new_stream_decoder(memory, liblzma::stream::CONCATENATED)?;
            Box::new(Dense(liblzma::bufread::XzDecoder::new_stream(from, stream)))
        }
    };
    let ratio = if format == Format::Xz { limits.xz_ratio } else { limits.ratio };
    Ok((format, Box::new(Bounded { inner, taken, given: 0, ratio, limits: limits.clone() })))
}

struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl<R: SparseRead> SparseRead for Counted<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        let n = self.inner.zeros(max)?;
        self.taken.fetch_add(n, Ordering::Relaxed);
        Ok(n)
    }
}

struct Bounded<R> {
    inner: R,
    taken: Arc<AtomicU64>,
    given: u64,
    ratio: u64,
    limits: Limits,
}

impl<R> Bounded<R> {
    fn count(&mut self, n: u64) -> io::Result<()> {
        self.given += n;
        let too_much = |what, limit| Err(io::Error::new(io::ErrorKind::InvalidData, TooMuch { what, limit }));
        if self.given > self.limits.total_bytes {
            return too_much("bytes", self.limits.total_bytes);
        }
        let taken = self.taken.load(Ordering::Relaxed);
        if self.given > self.limits.ratio_floor && self.given / taken.max(1) > self.ratio {
            return too_much("times its size", self.ratio);
        }
        Ok(())
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.limits.go_on()?;
        let n = self.inner.read(buf)?;
        self.count(n as u64).map(|()| n)
    }
}

impl<R: SparseRead> SparseRead for Bounded<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        self.limits.go_on()?;
        let n = self.inner.zeros(max)?;
        self.count(n).map(|()| n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(bytes: &[u8], limits: &Limits) -> io::Result<Vec<u8>> {
        let (_, mut reader) = decompress(bytes, limits)?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map(|_| out)
    }

    fn packed(data: &[u8]) -> Vec<(Format, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(data).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
        bzip2.write_all(data).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(data).unwrap();
        vec![
            (Format::Gzip, gzip.finish().unwrap()),
            (Format::Zstd, zstd::encode_all(data, 3).unwrap()),
            (Format::Bzip2, bzip2.finish().unwrap()),
            (Format::Xz, xz.finish().unwrap()),
        ]
    }

    #[test]
    fn formats_are_recognised_and_cut_streams_rejected() {
        // S-40
        let data: Vec<u8> = (0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for (format, bytes) in packed(&data) {
            assert_eq!(Format::of(&bytes), format);
            assert!(all(&bytes, &Limits::default()).unwrap() == data, "{format:?}");
            let twice = all(&[&bytes[..], &bytes].concat(), &Limits::default()).unwrap();
            assert!(twice == [&data[..], &data].concat(), "{format:?} twice");
            for cut in [bytes.len() - 1, bytes.len() - 7, bytes.len() / 2, 7] {
                assert!(all(&bytes[..cut], &Limits::default()).is_err(), "{format:?} cut at {cut}");
            }
        }
        assert_eq!(all(b"plain", &Limits::default()).unwrap(), b"plain");
        assert_eq!(all(b"", &Limits::default()).unwrap(), b"");
    }

    #[test]
    fn garbage_after_gzip_is_ignored() {
        let gzip = packed(b"data").remove(0).1;
        for tail in [&[0u8; 600][..], b"garbage", b"\x00"] {
            assert_eq!(all(&[&gzip[..], tail].concat(), &Limits::default()).unwrap(), b"data");
        }
    }

    #[test]
    fn decompression_bombs_are_rejected() {
        // S-39
        let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
        for (format, bytes) in packed(&vec![0; 8 << 20]) {
            let error = all(&bytes, &limits).unwrap_err();
            assert_eq!(error.to_string(), "decompresses to more than 1048576 bytes", "{format:?}");
        }
        let limits = Limits { ratio: 500, ratio_floor: 4 << 20, ..Limits::default() };
        for (format, bytes) in packed(&vec![0; 32 << 20]) {
            let want = if format == Format::Xz { 5000 } else { 500 };
            let error = all(&bytes, &limits).unwrap_err();
            assert_eq!(error.to_string(), format!("decompresses to more than {want} times its size"), "{format:?}");
        }
        for (format, bytes) in packed(&vec![0; 4 << 20]) {
            assert!(all(&bytes, &limits).is_ok(), "{format:?}: as much as that may be anything");
        }
    }
}
