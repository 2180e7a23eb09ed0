//! A value that is set later and that many readers wait for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A cell that is filled once; readers wait. Cloning shares the cell.
#[derive(Debug)]
pub(super) struct Promise<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Promise<T> {
    /// An empty cell.
    pub(super) fn new() -> Self {
        Self(Arc::new((Mutex::new(None), Condvar::new())))
    }

    /// A cell that is already filled.
    pub(super) fn kept(value: T) -> Self {
        let promise = Self::new();
        promise.keep(value);
        promise
    }

    /// Fills the cell and wakes all readers; the first value stays.
    pub(super) fn keep(&self, value: T) {
        let mut slot = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(value);
        self.0.1.notify_all();
    }

    /// The value, if it is set.
    pub(super) fn now(&self) -> Option<T> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the value.
    pub(super) fn wait(&self) -> T {
        let mut slot = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*slot {
                Some(value) => return value.clone(),
                None => slot = self.0.1.wait(slot).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
