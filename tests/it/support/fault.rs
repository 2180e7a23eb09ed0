//! What a server answers instead of what it should, while a test says so.

use std::sync::{Arc, RwLock};

use super::{Reply, Request};

type Answer = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

/// A fault that can be turned on and off while a server runs; shared by its clones.
#[derive(Clone, Default)]
pub struct Fault(Arc<RwLock<Option<Box<Answer>>>>);

impl Fault {
    /// From now on the server answers what `answer` says, and as usual where it says nothing.
    pub(crate) fn set(&self, answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        *self.0.write().expect("lock") = Some(Box::new(answer));
    }

    /// From now on the server answers as usual.
    pub fn clear(&self) {
        *self.0.write().expect("lock") = None;
    }

    pub(crate) fn answer(&self, request: &Request) -> Option<Reply> {
        self.0.read().expect("lock").as_ref().and_then(|answer| answer(request))
    }
}
