//! A reader that verifies size and digest.

use std::io::{self, Read};

use super::digest::{Hasher, Sha256};
use super::sparse::SparseRead;

/// The stream is not the promised one: the source of the `io::Error` of a [`Verified`] reader.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// More or fewer bytes than promised.
    #[error("size mismatch for {digest}: want {want} bytes, got {got}{}", if got > want { " or more" } else { "" })]
    Size {
        /// The digest promised.
        digest: Sha256,
        /// Bytes promised.
        want: u64,
        /// Bytes read until the mismatch was found.
        got: u64,
    },
    /// The size is right, the content is not.
    #[error("digest mismatch: want {want}, got {got}")]
    Digest {
        /// The digest promised.
        want: Sha256,
        /// The digest of the stream.
        got: Sha256,
    },
}

/// A reader that fails if the stream is shorter, longer or has another digest than promised (S-50).
///
/// Only `Ok(0)` from [`Read::read`] says that all is verified: read to the end before you trust a byte.
pub(crate) struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Sha256,
    size: u64,
    seen: u64,
}

impl<R: Read> Verified<R> {
    /// Promises that `inner` holds exactly `size` bytes hashing to `digest`.
    pub(crate) fn new(inner: R, digest: Sha256, size: u64) -> Self {
        Self { inner, hasher: Some(Hasher::new()), digest, size, seen: 0 }
    }
}

impl<R: SparseRead> SparseRead for Verified<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        // Zeros beyond the promised size are left to `read`, which fails.
        let n = self.inner.zeros(max.min(self.size.saturating_sub(self.seen)))?;
        self.seen += n;
        if let Some(hasher) = &mut self.hasher {
            hasher.zeros(n);
        }
        Ok(n)
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let invalid = |m: Mismatch| io::Error::new(io::ErrorKind::InvalidData, m);
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buf)?;
        self.seen += n as u64;
        if self.seen > self.size || (n == 0 && self.seen < self.size) {
            return Err(invalid(Mismatch::Size { digest: self.digest, want: self.size, got: self.seen }));
        }
        if n > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buf[..n]);
            }
        } else if let Some(hasher) = self.hasher.take() {
            let got = hasher.finish();
            if got != self.digest {
                return Err(invalid(Mismatch::Digest { want: self.digest, got }));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_rejects_wrong_short_and_long_streams() {
        let read = |data: &[u8], promised: &[u8]| {
            let mut out = Vec::new();
            Verified::new(data, Sha256::of(promised), promised.len() as u64).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(b"abc", b"abc").ok(), Some(b"abc".to_vec()));
        assert!(read(b"", b"").is_ok());
        for bad in [&b"ab"[..], b"abd", b"abcd", b""] {
            assert!(read(bad, b"abc").is_err(), "{bad:?}");
        }
    }
}
