//! Recorded layers by key: a record of the store or of a shared cache whose blob is in the store, or can be fetched or
//! recompressed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::digest::DiffId;
use crate::cache::remote::{EntryName, Remotes};
use crate::cache::{KeyParts, Local, Record, StepKey};
use crate::layer::{self, Compression, WriteOptions};
use crate::oci::blob::{BlobSink as _, BlobSource as _};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::store::Store;

use super::blobs::Blobs;
use super::error::{Error, StepError};

/// The records that a build can use.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    /// The records of the store.
    pub(super) local: &'a Local,
    /// Shared caches.
    pub(super) remotes: &'a Remotes,
    pub(super) store: &'a Store,
    pub(super) blobs: &'a Blobs<'a>,
    /// What was found in shared caches.
    pub(super) taken: &'a Taken,
    pub(super) compression: Compression,
    /// Nothing is recorded.
    pub(super) read_only: bool,
}

/// Layers that were found in shared caches, with the parts of their keys.
pub(super) type Taken = Mutex<Vec<(KeyParts, Layer)>>;

impl Records<'_> {
    /// The layer recorded in the store under `key`. Ok(Some): its blob is stored.
    pub(super) fn layer(&self, key: StepKey) -> Result<Option<Layer>, StepError> {
        match self.local.get(key)? {
            Some(record) => self.stored(record),
            None => Ok(None),
        }
    }

    /// The layer recorded under the key of these parts, in the store or in a shared cache that was asked. Ok(Some): its blob is
    /// stored, or can be fetched.
    pub(super) fn layer_anywhere(&self, parts: &KeyParts) -> Result<Option<Layer>, StepError> {
        let key = parts.key();
        if let Some(layer) = self.layer(key)? {
            return Ok(Some(layer));
        }
        let entry = self.remotes.entry(&EntryName::Step(key)).and_then(|entry| entry.layer);
        let Some(entry) = entry.filter(|entry| entry.key == key) else { return Ok(None) };
        let record = Record { parts: parts.clone(), diff_id: entry.diff_id, blobs: entry.blobs };
        let Some(layer) = self.stored(record)? else { return Ok(None) };
        lock(self.taken).push((parts.clone(), layer.clone()));
        Ok(Some(layer))
    }

    /// Records `layer`, whose blob is stored.
    pub(super) fn keep(&self, parts: KeyParts, layer: &Layer) -> Result<(), Error> {
        if self.read_only {
            return Ok(());
        }
        let blobs = [(self.compression.method(), layer.blob.clone())].into();
        Ok(self.local.record(&Record { parts, diff_id: layer.diff_id, blobs })?)
    }

    /// Records in the store what was found in shared caches, if its blob was fetched.
    pub(super) fn keep_taken(&self) -> Result<(), Error> {
        let taken = std::mem::take(&mut *lock(self.taken));
        for (parts, layer) in taken {
            if self.store.has(&layer.blob).map_err(crate::store::Error::from)? {
                self.keep(parts, &layer)?;
            }
        }
        Ok(())
    }

    /// The layer of `record`. Ok(Some): its blob is stored, or can be fetched.
    pub(super) fn stored(&self, record: Record) -> Result<Option<Layer>, StepError> {
        let name = self.compression.method();
        let layer = |blob: &Descriptor| Layer { diff_id: record.diff_id, blob: blob.clone() };
        if let Some(blob) = record.blobs.get(&name)
            && self.blobs.have(&layer(blob))?
        {
            return Ok(Some(layer(blob)));
        }
        // Recompressing the layer is faster than running its step again.
        for blob in record.blobs.values() {
            if self.blobs.have(&layer(blob))? {
                if self.read_only {
                    return Ok(Some(layer(blob)));
                }
                let blob = self.recompress(record.diff_id, blob)?;
                let mut record = record.clone();
                record.blobs.insert(name, blob.clone());
                self.local.record(&record)?;
                return Ok(Some(Layer { diff_id: record.diff_id, blob }));
            }
        }
        Ok(None)
    }

    /// Recompresses a layer for this build. Ok: the new blob is stored.
    fn recompress(&self, diff_id: DiffId, blob: &Descriptor) -> Result<Descriptor, StepError> {
        let options = WriteOptions { compression: self.compression, ..WriteOptions::default() };
        let plain = self.blobs.open(blob).map_err(crate::store::Error::from)?;
        let (draft, written) = layer::recompress(plain, diff_id, self.store.draft_blob()?, &options)?;
        draft.finish(written.blob, written.size)?;
        Ok(Descriptor::new(written.media_type, written.blob, written.size))
    }
}

fn lock(taken: &Taken) -> MutexGuard<'_, Vec<(KeyParts, Layer)>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}
