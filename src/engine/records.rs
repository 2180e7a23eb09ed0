//! Recorded layers by key: a record of the store or of a shared cache whose blob is in the store, or can be fetched or
//! recompressed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::digest::DiffId;
use crate::base::time::Timestamp;
use crate::cache::remote::{EntryName, Remotes};
use crate::cache::{KeyParts, Local, Made, Record, StepKey};
use crate::layer::{self, Compression, WriteOptions};
use crate::oci::blob::{BlobSink as _, BlobSource as _};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::plan::Step;
use crate::store::Store;

use super::blobs::Blobs;
use super::chain::State;
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
pub(super) type Taken = Mutex<Vec<(KeyParts, Layer, Made)>>;

/// What a recorded result must be to answer a step, besides its key.
#[derive(Clone, Copy)]
pub(super) struct Terms<'t> {
    /// An older one is too old.
    since: Option<Timestamp>,
    /// The file system that it must have been made over; for a step that depends on it.
    parent: Option<&'t State>,
}

impl<'t> Terms<'t> {
    /// Those for a step over `parent`, in a build that began then.
    pub(super) fn of(step: &Step, parent: Option<&'t Arc<State>>, began: Timestamp) -> Self {
        let age = step.meta.max_age.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let since = age.map(|age| Timestamp::from_secs(began.secs.saturating_sub(age)));
        let parent = parent.filter(|_| !step.is_linked()).map(|parent| &**parent);
        Self { since, parent }
    }

    /// How a result was made that was recorded so. `None`: the layers below are being packed, so that it is not known over
    /// which.
    pub(super) fn complete(&self, made: Made) -> Option<Made> {
        match (self.parent, made) {
            // It was recorded while they were packed.
            (Some(parent), Made { at: Some(_), below: None }) => Some(Made { below: Some(parent.identity()?), ..made }),
            _ => Some(made),
        }
    }

    /// Whether the result is not too old.
    pub(super) fn is_fresh(&self, made: Made) -> bool {
        self.since.is_none_or(|since| made.at.is_some_and(|at| at >= since))
    }

    /// Whether the result is known to have been made over other layers.
    pub(super) fn is_over_others(&self, made: Made) -> bool {
        let now = self.parent.and_then(State::identity);
        now.zip(made.below).is_some_and(|(now, below)| now != below)
    }

    /// Whether a result can be used, as far as the layers below are known.
    pub(super) fn fit(&self, made: Made) -> bool {
        self.is_fresh(made) && !self.is_over_others(made)
    }

    /// Whether a result can be used. Waits for layers below that are being packed.
    pub(super) fn allow(&self, made: Made) -> Result<bool, Error> {
        if let (Some(parent), Some(_)) = (self.parent, made.below)
            && parent.identity().is_none()
        {
            parent.layers()?;
        }
        Ok(self.fit(made))
    }
}

impl Records<'_> {
    /// The layer recorded in the store under `key`, and how it was made. Ok(Some): its blob is stored.
    pub(super) fn layer(&self, key: StepKey, terms: Terms<'_>) -> Result<Option<(Layer, Made)>, StepError> {
        match self.local.get(key)? {
            Some(record) if terms.allow(record.made)? => {
                let made = record.made;
                Ok(self.stored(record)?.map(|layer| (layer, made)))
            }
            _ => Ok(None),
        }
    }

    /// The layer recorded under the key of these parts, in the store or in a shared cache that was asked. Ok(Some): its blob is
    /// stored, or can be fetched.
    pub(super) fn layer_anywhere(&self, parts: &KeyParts, terms: Terms<'_>) -> Result<Option<Layer>, StepError> {
        let key = parts.key();
        if let Some((layer, _)) = self.layer(key, terms)? {
            return Ok(Some(layer));
        }
        let entry = self.remotes.entry(&EntryName::Step(key)).and_then(|entry| entry.layer);
        let Some(entry) = entry.filter(|entry| entry.key == key) else { return Ok(None) };
        let made = entry.made;
        if !terms.allow(made)? {
            return Ok(None);
        }
        let record = Record { parts: parts.clone(), diff_id: entry.diff_id, blobs: entry.blobs, made };
        let Some(layer) = self.stored(record)? else { return Ok(None) };
        lock(self.taken).push((parts.clone(), layer.clone(), made));
        Ok(Some(layer))
    }

    /// How the result under `key` was made, as far as it is known.
    pub(super) fn made(&self, key: StepKey) -> Result<Made, Error> {
        let taken = lock(self.taken).iter().find(|(parts, ..)| parts.key() == key).map(|(.., made)| *made);
        match taken {
            Some(made) => Ok(made),
            None => Ok(self.local.get(key)?.map(|record| record.made).unwrap_or_default()),
        }
    }

    /// Records `layer`, whose blob is stored.
    pub(super) fn keep(&self, parts: KeyParts, layer: &Layer, made: Made) -> Result<(), Error> {
        if self.read_only {
            return Ok(());
        }
        let blobs = [(self.compression.method(), layer.blob.clone())].into();
        Ok(self.local.record(&Record { parts, diff_id: layer.diff_id, blobs, made })?)
    }

    /// Records in the store what was found in shared caches, if its blob was fetched.
    pub(super) fn keep_taken(&self) -> Result<(), Error> {
        let taken = std::mem::take(&mut *lock(self.taken));
        for (parts, layer, made) in taken {
            match self.store.has(&layer.blob).map_err(crate::store::Error::from)? {
                true => self.keep(parts, &layer, made)?,
                // It may be fetched later, and is sent with its age in any case.
                false => lock(self.taken).push((parts, layer, made)),
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

fn lock(taken: &Taken) -> MutexGuard<'_, Vec<(KeyParts, Layer, Made)>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}
