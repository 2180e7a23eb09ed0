//! What the cache stores under a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::DiffId;
use crate::oci::descriptor::Descriptor;

use super::key::KeyParts;

/// The result of one step: the layer it made, in every compression it was asked for so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What determined the result.
    pub parts: KeyParts,
    /// The layer, uncompressed.
    pub diff_id: DiffId,
    /// The layer as stored, by compression name (`gzip-4`).
    pub blobs: BTreeMap<String, Descriptor>,
}
