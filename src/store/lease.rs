//! Leases: what a process uses stays, and other things can be removed at the same time (N-63).
//!
//! **Holds.** A process that only looks things up holds `lock` shared; then nothing is removed. One that works for longer
//! (runs steps, fetches) takes a lease instead, and from then on marks what it uses by setting the modification time.
//! Pruning holds `lock` exclusively, for as long as some renames take, and leaves what was made or marked since the oldest
//! lease began.
//! **On disk.** A lease is an empty directory `scratch/use-<n>`, flock'ed by its holder. It ends with its process, and is
//! swept like all scratch. A process that waits to prune holds `scratch/prune-<n>`; others wait for that before they share
//! `lock`, or `lock` would never be free.
//! **Order.** A lease begins while `lock` is shared, and what was found before is marked before `lock` is released. Marking
//! shares `lock`, too: a removal either sees the mark or has happened, and then there is nothing to mark.

use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::fs::{self, FsError};
use crate::base::lock::{Exclusive, Patience, Shared, taken};
use crate::base::time::Timestamp;

use super::Error;
use super::directory::{Protection, Store};
use super::scratch::{LEASE, PRUNER, Scratch};

/// How often the lock is tried for something that only saves work.
const ATTEMPTS: usize = 20;

/// Nothing is removed from the store while this lives.
#[derive(Debug)]
pub(crate) struct SharedGuard(Option<Shared>);

impl Drop for SharedGuard {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl Store {
    /// Call this before relying on anything in the store. Ok: nothing is removed until this store is dropped or
    /// [`Store::lease`] is called (S-131).
    pub(crate) fn share(&self, patience: &mut Patience<'_>) -> Result<(), Error> {
        if let Some(waiting) = &self.pruner
            && let Ok(turn) = fs::open(waiting)
        {
            patience.wait(waiting, || taken(turn.try_lock_shared(), waiting))?;
        }
        let shared = Shared::wait(&self.lock_path(), patience)?;
        *self.protection.lock().unwrap_or_else(PoisonError::into_inner) = Protection::Shared(shared);
        Ok(())
    }

    /// From here on, others may remove what this process does not use. Ok: everything made or looked at from now on stays
    /// until this store is dropped. What was found before has to be looked at again while the guard lives. A read-only store
    /// stays shared: nothing can be removed from it.
    pub(crate) fn lease(&self) -> Result<SharedGuard, Error> {
        let mut protection = self.protection.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match std::mem::take(&mut *protection) {
            Protection::Leased(lease) => {
                *protection = Protection::Leased(lease);
                return Ok(SharedGuard(None));
            }
            Protection::Shared(shared) => shared,
            Protection::None => self.lock_shared()?,
        };
        match Scratch::named(&self.scratch_dir(), LEASE) {
            Ok(lease) => {
                *protection = Protection::Leased(lease);
                self.leased.store(true, Ordering::Release);
                Ok(SharedGuard(Some(shared)))
            }
            Err(e) => {
                *protection = Protection::Shared(shared);
                if e.source.kind() == io::ErrorKind::ReadOnlyFilesystem { Ok(SharedGuard(None)) } else { Err(e.into()) }
            }
        }
    }

    /// Marks `path` as used, if this process has a lease: without one, nothing is removed. Ok: if it exists, it stays.
    pub(crate) fn keep(&self, path: &Path) -> Result<(), FsError> {
        if self.leased.load(Ordering::Acquire) {
            let _moment = self.lock_shared()?;
            fs::touch(path);
        }
        Ok(())
    }

    /// [`Store::keep`] for a directory, which is made if it is not there.
    pub(crate) fn keep_dir(&self, path: &Path) -> Result<(), FsError> {
        let _moment = if self.leased.load(Ordering::Acquire) { Some(self.lock_shared()?) } else { None };
        fs::make_dir(path)?;
        fs::touch(path);
        Ok(())
    }

    /// Moves `part` of the directory `dir`, which whoever uses the part marks, to `to`. Ok(true): it is there, and nobody finds
    /// it where it was; Ok(false): it is in use, or may be.
    pub(crate) fn take(&self, dir: &Path, part: &Path, to: &Path) -> Result<bool, FsError> {
        for _ in 0..ATTEMPTS {
            if let Some(alone) = Exclusive::attempt(&self.lock_path())? {
                let marked = fs::modified(dir)?;
                let free = self.leases(&alone)?.iter().all(|lease| marked < *lease);
                return if free { fs::rename(part, to).map(|()| true) } else { Ok(false) };
            }
            // A thread that marks something has the lock for a moment.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(false)
    }

    /// The lock for removing something. Waits for processes that share the store; those with a lease go on.
    pub(crate) fn exclude(&self, patience: &mut Patience<'_>) -> Result<Exclusive, Error> {
        let _turn = Scratch::named(&self.scratch_dir(), PRUNER)?;
        Ok(Exclusive::wait(&self.lock_path(), patience)?)
    }

    /// When each lease began.
    pub(super) fn leases(&self, _alone: &Exclusive) -> Result<Vec<Timestamp>, FsError> {
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

    /// Nobody holds `lock` exclusively for long: this wait is not announced.
    fn lock_shared(&self) -> Result<Shared, FsError> {
        Shared::wait(&self.lock_path(), &mut Patience::new(&mut |_| ()))
    }
}
