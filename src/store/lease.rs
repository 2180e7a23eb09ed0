//! Who uses the store, so that what is used stays, and what is not can be removed beside them (N-63).
//!
//! **Holds.** While a process looks, it holds `lock` shared, and nothing is removed at all. One that goes on for longer
//! (a step runs, something is fetched) takes a lease instead, and marks whatever it looks at from then on: it sets its
//! modification time. Whoever removes holds `lock` exclusively, for as long as some renames take, and leaves what was
//! made or marked since the oldest lease began.
//! **On disk.** A lease is an empty directory `scratch/use-<n>`, flock'ed by its holder: it ends with its process, and is
//! swept like all scratch. Whoever waits for `lock` to remove something holds `scratch/prune-<n>`, at which those who are
//! about to share `lock` wait, or it would never be free.
//! **Order.** A lease begins while `lock` is shared; what was found before is marked before that ends. A mark is made
//! with `lock` shared, too: it comes before a removal, which then sees it, or after it, and then there is nothing to mark.

use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::base::fs::{self, FsError};
use crate::base::lock::{Exclusive, Patience, Shared, taken};
use crate::base::time::Timestamp;

use super::Error;
use super::directory::{Protection, Store};
use super::scratch::{LEASE, PRUNER, Scratch};

/// Nothing is removed while it lives.
#[derive(Debug)]
pub struct Moment(Option<Shared>);

impl Drop for Moment {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl Store {
    /// To be called before anything in the store is relied on. Ok: nothing is removed until this store is dropped or
    /// [`Store::lease`] called (S-131).
    pub fn share(&self, patience: &mut Patience<'_>) -> Result<(), Error> {
        if let Some(waiting) = &self.pruner
            && let Ok(turn) = fs::open(waiting)
        {
            patience.wait(waiting, || taken(turn.try_lock_shared(), waiting))?;
        }
        let shared = Shared::wait(&self.lock_path(), patience)?;
        *self.protection.lock().unwrap_or_else(PoisonError::into_inner) = Protection::Shared(shared);
        Ok(())
    }

    /// From here on others may remove what this process does not use. Ok: everything made or looked at from now on
    /// stays until this store is dropped; what was found before has to be looked at once more while what is returned
    /// lives. A store that cannot be written to stays shared: nothing can be removed from it.
    pub fn lease(&self) -> Result<Moment, Error> {
        let mut protection = self.protection.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match std::mem::take(&mut *protection) {
            Protection::Leased(lease) => {
                *protection = Protection::Leased(lease);
                return Ok(Moment(None));
            }
            Protection::Shared(shared) => shared,
            Protection::None => self.briefly()?,
        };
        match Scratch::named(&self.scratch_dir(), LEASE) {
            Ok(lease) => {
                *protection = Protection::Leased(lease);
                self.leased.store(true, Ordering::Release);
                Ok(Moment(Some(shared)))
            }
            Err(e) => {
                *protection = Protection::Shared(shared);
                if e.source.kind() == io::ErrorKind::ReadOnlyFilesystem { Ok(Moment(None)) } else { Err(e.into()) }
            }
        }
    }

    /// Marks `path` as used, if this process has a lease: without one nothing is removed, or nothing relied on.
    /// Ok: if it is there now, it stays.
    pub fn keep(&self, path: &Path) -> Result<(), FsError> {
        if self.leased.load(Ordering::Acquire) {
            let _moment = self.briefly()?;
            fs::touch(path);
        }
        Ok(())
    }

    /// [`Store::keep`] for a directory, which is made if it is not there.
    pub fn keep_dir(&self, path: &Path) -> Result<(), FsError> {
        let _moment = if self.leased.load(Ordering::Acquire) { Some(self.briefly()?) } else { None };
        fs::make_dir(path)?;
        fs::touch(path);
        Ok(())
    }

    /// Held by whoever removes something, while it renames. Waits for those who share the store; those with a lease go on.
    pub fn exclude(&self, patience: &mut Patience<'_>) -> Result<Exclusive, Error> {
        let _turn = Scratch::named(&self.scratch_dir(), PRUNER)?;
        Ok(Exclusive::wait(&self.lock_path(), patience)?)
    }

    /// When each lease began.
    pub(super) fn leases(&self, _alone: &Exclusive) -> Result<Vec<Timestamp>, Error> {
        let mut began = Vec::new();
        for name in fs::list(&self.scratch_dir())? {
            let path = self.scratch_dir().join(&name);
            if name.as_encoded_bytes().starts_with(LEASE.as_bytes())
                && let Ok(lease) = fs::open(&path)
                && taken(lease.try_lock_shared(), &path)?.is_none()
            {
                began.push(fs::modified(&path)?);
            }
        }
        Ok(began)
    }

    /// Whoever holds it exclusively does so for moments only: nobody need be told of this wait.
    fn briefly(&self) -> Result<Shared, FsError> {
        Shared::wait(&self.lock_path(), &mut Patience::new(&mut |_| ()))
    }
}
