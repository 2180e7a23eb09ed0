//! Hashing of named fields without ambiguity.
//!
//! **Holds.** A field is hashed as length of name, name, length of value, value, so different lists of fields never give the
//! same bytes (S-136). Lengths are 64-bit little-endian. The first field is the domain: things of different kinds never share
//! a digest. A change here changes every cache key.

use super::digest::{Hasher, Sha256};

/// A hash over named, length-framed fields.
#[derive(Clone)]
pub(crate) struct StableHasher(Hasher);

impl StableHasher {
    /// Starts a hash in `domain`, for example `kiln.step.v1`.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hasher = Self(Hasher::new());
        hasher.bytes(domain.as_bytes());
        hasher
    }

    /// Adds one named value.
    pub(crate) fn field(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.bytes(name.as_bytes());
        self.bytes(value)
    }

    /// Adds one named number.
    pub(crate) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.field(name, &value.to_le_bytes())
    }

    /// Adds one unnamed, framed value.
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    /// The digest of everything added.
    pub(crate) fn finish(self) -> Sha256 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_distinguishes_split_values() {
        let hash = |parts: &[&str]| {
            let mut h = StableHasher::new("t");
            for p in parts {
                h.bytes(p.as_bytes());
            }
            h.finish()
        };
        assert_ne!(hash(&["a", "bc"]), hash(&["ab", "c"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
        let mut named = StableHasher::new("t");
        named.field("a", b"b");
        assert_ne!(named.finish(), StableHasher::new("u").field("a", b"b").clone().finish());
    }
}
