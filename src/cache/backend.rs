//! The interface of a cache: implement it to store records elsewhere.

use crate::base::digest::StepKey;
use crate::oci::blob::BlobSink;
use crate::oci::descriptor::Descriptor;

use super::error::Error;
use super::record::Record;

/// A cache.
///
/// Methods take many keys or records at once, so that a remote cache needs one round trip for many steps.
pub(crate) trait CacheBackend: Sync {
    /// Looks up `keys`; one answer per key, in the same order. `Ok(None)`: there is no usable record. An error is never
    /// a miss. The blobs that a record names need not be in the store: see [`CacheBackend::fetch`].
    fn lookup(&self, keys: &[StepKey]) -> Vec<Result<Option<Record>, Error>>;

    /// Stores `records`, whose blobs are already stored. Ok: later lookups find them, unless they are pruned or lost.
    fn record(&self, records: &[Record]) -> Result<(), Error>;

    /// Copies a blob that a record names into `store`, which lacks it. `Ok(false)`: the cache lacks it too, so the
    /// record is useless.
    fn fetch(&self, blob: &Descriptor, store: &dyn BlobSink) -> Result<bool, Error>;

    /// Looks up one key: see [`CacheBackend::lookup`].
    fn get(&self, key: StepKey) -> Result<Option<Record>, Error> {
        self.lookup(&[key]).pop().expect("one answer per key")
    }
}
