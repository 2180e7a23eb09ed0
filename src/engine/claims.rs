//! Executes each key once: steps with the same key wait for the first, in this process and in others.
//!
//! **No deadlock.** Two builds may have the same steps in opposite order, and each execute what the other waits for. A thread
//! claims a key only when the steps that it needs are done and their files exist, so a holder never waits for another step:
//! it waits for the layers below, whose packing and unpacking wait for no key; for a cache mount, whose holder is executing
//! as well; and for the network. A thread holds one key at most, first among the threads of its process ([`InFlight`]), then
//! among processes. So every chain of waiting threads ends at a holder that is executing, and when it ends or dies, all go
//! on: they find its result, or one of them takes over. Threads that wait use up `--jobs`, which only delays steps that hold
//! nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::digest::StepKey;
use crate::base::lock::Patience;
use crate::store::{Claim, Claiming};

use super::error::StepError;
use super::message::Reporter;
use super::promise::Promise;
use super::shared::Shared;

/// The keys of the steps that this build is executing.
#[derive(Default)]
pub(super) struct InFlight {
    keys: Mutex<BTreeMap<StepKey, Promise<()>>>,
}

/// The exclusive right to execute one key. Dropping it wakes the steps that wait for it.
pub(super) struct Turn<'f> {
    of: &'f InFlight,
    key: StepKey,
    promise: Promise<()>,
}

impl InFlight {
    /// `Some`: no other step of this build executes this key. `None`: one did, and has ended.
    pub(super) fn claim(&self, key: StepKey) -> Option<Turn<'_>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get(&key).cloned() {
            Some(other) => {
                drop(keys);
                other.wait();
                None
            }
            None => {
                let promise = Promise::new();
                keys.insert(key, promise.clone());
                Some(Turn { of: self, key, promise })
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.promise.keep(());
    }
}

/// Waits until no other process executes this key. `None`: one tried and failed, so that waiting is over.
pub(super) fn among_processes(
    shared: &Shared<'_>,
    key: StepKey,
    reporter: &Reporter,
) -> Result<Option<Claim>, StepError> {
    let mut report = |who: &str| reporter.fallback(format!("waiting for {who}"), "it runs a step of this build");
    let mut patience = Patience::new(&mut report).until(shared.stop);
    match shared.builder.store.claim(&key.hex(), &mut patience)? {
        Claiming::Ours(claim) => Ok(Some(claim)),
        Claiming::Failed => Ok(None),
    }
}
