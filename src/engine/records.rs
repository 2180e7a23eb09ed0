//! Layers by key: what the cache knows of and the store has, or can have.

use crate::base::digest::DiffId;
use crate::cache::{CacheBackend, Error as CacheError, KeyParts, Record, StepKey};
use crate::layer::{self, Compression, WriteOptions};
use crate::oci::blob::BlobSink as _;
use crate::oci::blob::BlobSource as _;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::store::Store;

use super::error::{Error, StepError};

/// A cache, the store with its blobs, and the compression that this build wants.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub(super) cache: &'a dyn CacheBackend,
    pub(super) store: &'a Store,
    pub(super) compression: Compression,
}

impl Records<'_> {
    /// The layer recorded under `key`. Ok(Some): its blob is stored.
    pub(super) fn layer(&self, key: StepKey) -> Result<Option<Layer>, StepError> {
        match self.cache.get(key)? {
            Some(record) => self.stored(record),
            None => Ok(None),
        }
    }

    /// The layers recorded under `keys`, in the same order, each like [`Records::layer`].
    pub(super) fn layers(&self, keys: &[StepKey]) -> Vec<Result<Option<Layer>, StepError>> {
        let stored = |found: Result<Option<Record>, CacheError>| match found? {
            Some(record) => self.stored(record),
            None => Ok(None),
        };
        self.cache.lookup(keys).into_iter().map(stored).collect()
    }

    /// Records `layer`, whose blob is stored.
    pub(super) fn keep(&self, parts: KeyParts, layer: &Layer) -> Result<(), Error> {
        let blobs = [(self.compression.method(), layer.blob.clone())].into();
        Ok(self.cache.record(&[Record { parts, diff_id: layer.diff_id, blobs }])?)
    }

    /// The layer of `record`. Ok(Some): its blob is stored.
    fn stored(&self, record: Record) -> Result<Option<Layer>, StepError> {
        let name = self.compression.method();
        if let Some(blob) = record.blobs.get(&name)
            && self.have(blob)?
        {
            return Ok(Some(Layer { diff_id: record.diff_id, blob: blob.clone() }));
        }
        // The layer in another compression replaces the command that made it, and is faster.
        for blob in record.blobs.values() {
            if self.have(blob)? {
                let blob = self.recompress(record.diff_id, blob)?;
                let mut record = record.clone();
                record.blobs.insert(name, blob.clone());
                self.cache.record(std::slice::from_ref(&record))?;
                return Ok(Some(Layer { diff_id: record.diff_id, blob }));
            }
        }
        Ok(None)
    }

    /// Whether the blob is in the store, or could be brought there.
    fn have(&self, blob: &Descriptor) -> Result<bool, StepError> {
        Ok(self.store.has(blob).map_err(crate::store::Error::from)? || self.cache.fetch(blob, self.store)?)
    }

    /// Writes a stored layer again in the compression of this build. Ok: that blob is stored too.
    fn recompress(&self, diff_id: DiffId, blob: &Descriptor) -> Result<Descriptor, StepError> {
        let options = WriteOptions { compression: self.compression, ..WriteOptions::default() };
        let plain = self.store.open(blob).map_err(crate::store::Error::from)?;
        let (draft, written) = layer::recompress(plain, diff_id, self.store.draft_blob()?, &options)?;
        draft.finish(written.blob, written.size)?;
        Ok(Descriptor::new(written.media_type, written.blob, written.size))
    }
}
