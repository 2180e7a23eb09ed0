//! Which cache mounts the commands of a build have used, and their names in shared caches.

use std::sync::{Mutex, PoisonError};

use crate::base::stable::StableHasher;
use crate::cache::{StepKey, step_key};
use crate::oci::platform::Platform;

/// A cache mount that a command of this build has used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SharedMount {
    /// The id as the Dockerfile has it.
    pub(super) id: String,
    /// What tells it from others with this id.
    pub(super) identity: String,
    /// The platform of its command.
    platform: String,
}

impl SharedMount {
    pub(super) fn new(id: &str, identity: &str, platform: &Platform) -> Self {
        Self { id: id.to_owned(), identity: identity.to_owned(), platform: platform.to_string() }
    }

    /// The key of its entry.
    pub(super) fn key(&self) -> StepKey {
        let mut hasher = StableHasher::new("kiln.shared-mount.v1");
        hasher.field("identity", self.identity.as_bytes()).field("platform", self.platform.as_bytes());
        step_key::whole(hasher.finish())
    }
}

/// The cache mounts that commands of this build have used and that shared caches want.
#[derive(Default)]
pub(super) struct Used(Mutex<Vec<SharedMount>>);

impl Used {
    /// Notes that a command uses a cache mount.
    pub(super) fn note(&self, mount: SharedMount) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !used.contains(&mount) {
            used.push(mount);
        }
    }

    /// All that were noted.
    pub(super) fn take(&self) -> Vec<SharedMount> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
