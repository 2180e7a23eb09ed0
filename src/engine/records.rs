//! Recorded layers by key: a record of the cache whose blob is in the store, or can be fetched or recompressed.

use crate::base::digest::DiffId;
use crate::cache::{CacheBackend, Error as CacheError, KeyParts, Record, StepKey};
use crate::layer::{self, Compression, WriteOptions};
use crate::oci::blob::BlobSink as _;
use crate::oci::blob::BlobSource as _;
use crate::oci::descriptor::{Descriptor, Layer};
use crate::store::Store;

use super::error::{Error, StepError};

/// A cache, the store with its blobs, and the compression of this build.
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
        // Recompressing the layer is faster than running its step again.
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

    /// Whether the blob is in the store, now or after fetching it from the cache.
    fn have(&self, blob: &Descriptor) -> Result<bool, StepError> {
        Ok(self.store.has(blob).map_err(crate::store::Error::from)? || self.cache.fetch(blob, self.store)?)
    }

    /// Recompresses a stored layer for this build. Ok: the new blob is stored too.
    fn recompress(&self, diff_id: DiffId, blob: &Descriptor) -> Result<Descriptor, StepError> {
        let options = WriteOptions { compression: self.compression, ..WriteOptions::default() };
        let plain = self.store.open(blob).map_err(crate::store::Error::from)?;
        let (draft, written) = layer::recompress(plain, diff_id, self.store.draft_blob()?, &options)?;
        draft.finish(written.blob, written.size)?;
        Ok(Descriptor::new(written.media_type, written.blob, written.size))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::base::digest::{BlobDigest, Sha256};
    use crate::oci::blob::BlobSink;
    use crate::oci::descriptor::LAYER_TAR;

    /// A remote cache with its own blobs.
    #[derive(Default)]
    struct Memory {
        records: Mutex<BTreeMap<StepKey, Record>>,
        blobs: BTreeMap<BlobDigest, Vec<u8>>,
    }

    impl CacheBackend for Memory {
        fn lookup(&self, keys: &[StepKey]) -> Vec<Result<Option<Record>, CacheError>> {
            let records = self.records.lock().unwrap();
            keys.iter().map(|key| Ok(records.get(key).cloned())).collect()
        }

        fn record(&self, records: &[Record]) -> Result<(), CacheError> {
            let keyed = records.iter().map(|record| (record.parts.key(), record.clone()));
            self.records.lock().unwrap().extend(keyed);
            Ok(())
        }

        fn fetch(&self, blob: &Descriptor, store: &dyn BlobSink) -> Result<bool, CacheError> {
            let Some(bytes) = self.blobs.get(&blob.digest) else { return Ok(false) };
            store.accept(blob, &mut &bytes[..])?;
            Ok(true)
        }
    }

    #[test]
    fn recorded_layer_is_fetched_from_another_cache() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let bytes = vec![0; 1024];
        let digest = BlobDigest(Sha256::of(&bytes));
        let blob = Descriptor::new(LAYER_TAR, digest, bytes.len() as u64);
        let layer = Layer { diff_id: DiffId(Sha256::of(&bytes)), blob: blob.clone() };
        let lost = Descriptor::new(LAYER_TAR, BlobDigest(Sha256::of(b"lost")), 4);
        let cache = Memory { blobs: BTreeMap::from([(digest, bytes)]), ..Memory::default() };
        let records = Records { cache: &cache, store: &store, compression: Compression::Uncompressed };
        let parts = |name: &str| {
            let mut parts = KeyParts::new();
            parts.add(name, b"");
            parts
        };
        records.keep(parts("here"), &layer).unwrap();
        records.keep(parts("lost"), &Layer { blob: lost, ..layer.clone() }).unwrap();

        let keys = ["here", "lost", "never made"].map(|name| parts(name).key());
        let found: Vec<_> = records.layers(&keys).into_iter().map(Result::unwrap).collect();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
        assert!(found[0].as_ref().is_some_and(|found| found.diff_id == layer.diff_id));
        assert!(store.has(&blob).unwrap(), "the blob was brought into the store");
    }
}
