//! Where records are kept: the seam for caches in other places.

use crate::base::digest::StepKey;
use crate::oci::blob::BlobSink;
use crate::oci::descriptor::Descriptor;

use super::error::Error;
use super::record::Record;

/// A cache.
///
/// It takes and gives many keys at once, so that a cache behind a network needs one round trip for many steps.
pub trait CacheBackend: Sync {
    /// The records of `keys`, one answer per key in the same order. `Ok(None)`: there is none that can be used. An error
    /// is never a miss. The blobs that a record names need not be in the store: see [`CacheBackend::fetch`].
    fn lookup(&self, keys: &[StepKey]) -> Vec<Result<Option<Record>, Error>>;

    /// Keeps `records`. The blobs they name are stored. Ok: a lookup of their keys finds them, unless they are lost.
    fn record(&self, records: &[Record]) -> Result<(), Error>;

    /// Brings a blob that a record names into `store`, which does not have it. `Ok(false)`: the cache does not have it
    /// either, and the record is of no use.
    fn fetch(&self, blob: &Descriptor, store: &dyn BlobSink) -> Result<bool, Error>;

    /// The record of one key: see [`CacheBackend::lookup`].
    fn get(&self, key: StepKey) -> Result<Option<Record>, Error> {
        self.lookup(&[key]).pop().expect("one answer per key")
    }
}
