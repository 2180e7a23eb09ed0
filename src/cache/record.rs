//! What the cache stores under a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::{DiffId, Hasher, Sha256, StepKey};
use crate::base::time::Timestamp;
use crate::oci::descriptor::Descriptor;

use super::key::KeyParts;

/// The result of one step: its layer, in every compression requested so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What determined the result.
    pub parts: KeyParts,
    /// The layer, uncompressed.
    pub diff_id: DiffId,
    /// The layer as stored, by compression name (`gzip-4`).
    pub blobs: BTreeMap<String, Descriptor>,
    /// How it was made.
    #[serde(default, skip_serializing_if = "Made::is_unknown")]
    pub made: Made,
}

/// How a result was made: in no key, but a result may be too old, or be over other layers than those that are there. Earlier
/// versions did not record it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Over which layers: what identifies them. None for a step that does not depend on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<StepKey>,
}

impl Made {
    /// Whether nothing is known.
    pub(crate) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// Precedes the digest at the end of a record file. The digest covers the fields before it and detects damage that is
/// still valid JSON. Earlier versions wrote none.
const SUM: &str = ",\"sum\":\"";

impl Record {
    /// Serializes the record for [`Record::from_bytes`].
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a record has only string keys");
        let sum = Sha256::of(&bytes).hex();
        bytes.pop();
        bytes.extend([SUM, &sum, "\"}"].concat().into_bytes());
        bytes
    }

    /// Whether `bytes` are those of this record, with or without a digest.
    pub(super) fn is_written_as(&self, bytes: &[u8]) -> bool {
        self.to_bytes() == bytes || serde_json::to_vec(self).is_ok_and(|plain| plain == bytes)
    }

    /// Parses a stored record. Err: why it is invalid.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let sum = bytes.len().checked_sub("\"}".len() + 64).map(|at| bytes.split_at(at));
        if let Some((before, sum)) = sum
            && let Some(fields) = before.strip_suffix(SUM.as_bytes())
        {
            let mut hasher = Hasher::new();
            hasher.update(fields);
            hasher.update(b"}");
            if !sum.starts_with(hasher.finish().hex().as_bytes()) {
                return Err("its digest does not match".to_owned());
            }
        }
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::BlobDigest;

    #[test]
    fn record_rejects_or_ignores_any_changed_byte() {
        let blob = Descriptor::new("application/x", BlobDigest(Sha256::of(b"blob")), 7);
        let mut parts = KeyParts::new();
        parts.add("a", b"b");
        let (diff_id, blobs) = (DiffId(Sha256::of(b"tar")), BTreeMap::from([("gzip-4".to_owned(), blob)]));
        let made = Made { at: Some(Timestamp::from_secs(7)), below: Some(parts.key()) };
        let record = Record { parts, diff_id, blobs, made };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Ok(record.clone()));
        assert_eq!(Record::from_bytes(&serde_json::to_vec(&record).unwrap()), Ok(record.clone()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                Record::from_bytes(&changed).is_ok_and(|read| read == record) || Record::from_bytes(&changed).is_err()
            );
            assert!(Record::from_bytes(&bytes[..at]).is_err());
        }
    }
}
