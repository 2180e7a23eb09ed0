//! What was found damaged, for whoever talks to people.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Facts, each said once. Cloning shares the list.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    known: BTreeSet<(String, String)>,
    unsaid: Vec<(String, String)>,
}

impl Notices {
    /// `what` is done differently because of `why`; the same again is not said again.
    pub fn note(&self, what: impl Into<String>, why: impl Into<String>) {
        let fact = (what.into(), why.into());
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.known.insert(fact.clone()) {
            found.unsaid.push(fact);
        }
    }

    /// What was not said yet; the caller says it.
    pub fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).unsaid)
    }
}
