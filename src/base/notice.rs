//! Notices for the user, for example of damage that was repaired.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Notices, each reported once. Cloning shares the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    known: BTreeSet<(String, String)>,
    unreported: Vec<(String, String)>,
}

impl Notices {
    /// Adds a notice that `what` is done because of `why`, unless it was added before.
    pub(crate) fn note(&self, what: impl Into<String>, why: impl Into<String>) {
        let fact = (what.into(), why.into());
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.known.insert(fact.clone()) {
            found.unreported.push(fact);
        }
    }

    /// Takes the notices that were not reported yet, which the caller then reports.
    pub(crate) fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).unreported)
    }
}
