//! SHA-256, with one type per use.
//!
//! **Holds.** A `BlobDigest` names bytes as stored, a `DiffId` an uncompressed layer tar, a `StepKey` everything that
//! determines a step's result, a `ContentDigest` the content of selected files. They cannot be mixed up: passing one where
//! another is wanted does not compile. The text form is `sha256:<64 lower-case hex>`; parsing accepts nothing else (S-19), so
//! a parsed digest is safe as a file name.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState as _;

use super::sparse::ZEROS;

/// Thirty-two bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// A digest that is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid digest {0:?}: want sha256: and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(pub String);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 lower-case hexadecimal digits, without a prefix.
    pub fn hex(&self) -> String {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        let mut out = [0; 64];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(hex.chars().take(128).collect());
        let bytes = hex.as_bytes();
        if bytes.len() != 64 {
            return Err(invalid());
        }
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(invalid()),
        };
        let mut out = [0u8; 32];
        for (i, pair) in bytes.chunks_exact(2).enumerate() {
            out[i] = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", &self.hex()[..12])
    }
}

impl FromStr for Sha256 {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.chars().take(128).collect());
        let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        Self::from_hex(hex).map_err(|_| invalid())
    }
}

macro_rules! named_digest {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Sha256);

        impl $name {
            /// The 64 hexadecimal digits, safe as a file name.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                text.parse().map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

named_digest! {
    /// Names bytes exactly as a store or registry holds them (compressed layer, config, manifest).
    BlobDigest;
    /// Names an uncompressed layer tar (image-spec, config `rootfs.diff_ids`).
    DiffId;
    /// Names everything that determines a step's result.
    StepKey;
    /// Names what a file or a selection of files holds.
    ContentDigest;
}

/// Computes SHA-256 incrementally.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds `count` zeros.
    pub fn zeros(&mut self, mut count: u64) {
        while count > 0 {
            let step = count.min(ZEROS.len() as u64);
            self.0.update(&ZEROS[..step as usize]);
            count -= step;
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }

    /// The present state, for [`Hasher::resume`].
    pub fn state(&self) -> HashState {
        HashState(self.0.serialize().into())
    }

    /// Continues from the state of another hasher; `None` if the state is invalid.
    pub fn resume(state: &HashState) -> Option<Self> {
        sha2::Sha256::deserialize(&state.0.into()).ok().map(Self)
    }
}

/// The state of a [`Hasher`]. A changed state gives a wrong digest: who stores one must detect damage.
#[derive(Clone, PartialEq, Eq)]
pub struct HashState(pub [u8; Self::LEN]);

impl HashState {
    /// Its size in bytes.
    pub const LEN: usize = 104;

    /// The number of bytes hashed so far.
    pub fn taken(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, more, ..] = self.0[32..] else { return 0 };
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_mul(64).wrapping_add(u64::from(more))
    }
}

impl fmt::Debug for HashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashState(after {})", self.taken())
    }
}

/// Hashes and counts the bytes that pass to an inner writer or from an inner reader.
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    count: u64,
}

impl<T> Hashing<T> {
    /// Wraps `inner`; nothing counted yet.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Hasher::new(), count: 0 }
    }

    /// The inner stream, the digest and the number of bytes that passed.
    pub fn finish(self) -> (T, Sha256, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_rejects_all_but_sha256_and_lower_case_hex() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sha256::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<BlobDigest>().map(|d| d.to_string()), Ok(empty.to_owned()));
        // S-19
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hasher_resumes_from_stored_state() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for at in [0, 1, 63, 64, 65, 512, 999, 1000] {
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..at]);
            let state = hasher.state();
            assert_eq!(state.taken(), at as u64);
            let mut again = Hasher::resume(&state).unwrap();
            again.update(&bytes[at..]);
            assert_eq!(again.finish(), Sha256::of(&bytes));
        }
        // States are stored: a different form needs a new version of the file of `layer::resume`.
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let form = "b6963a321efb727096e189881463c5d5c693e0a2c10a1de02571fdf4e1063d76";
        assert_eq!(Sha256::of(&hasher.state().0).hex(), form);
        let mut broken = hasher.state();
        broken.0[40] = 64;
        assert!(Hasher::resume(&broken).is_none());
    }
}
