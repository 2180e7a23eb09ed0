//! What an inner process knows about the outer one that started it.

use std::sync::OnceLock;

use super::obstacle::NamespaceObstacle;
use super::privilege::{Privilege, privilege};
use super::reason::SingleIdReason;
use crate::sandbox::failure::{Fault, SetupFailure};
use crate::sandbox::hint::Hint;

static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// Data from the outer process.
#[derive(Debug)]
pub(super) struct Origin {
    /// The user id outside.
    pub(super) uid: u32,
    /// The reason, if the namespace has a single id.
    pub(super) single_id: Option<SingleIdReason>,
    /// Data from the caller of [`enter`](fn@super::enter).
    pub(super) payload: String,
}

impl Origin {
    /// Keeps it for the rest of the process.
    pub(super) fn keep(self) {
        // Only the first inner process gets here, and only once.
        let _ = ORIGIN.set(self);
    }
}

/// The user id that this process had outside, if it entered a user namespace.
pub(crate) fn outer_uid() -> Option<u32> {
    ORIGIN.get().map(|origin| origin.uid)
}

/// The data from the outer process, if this one entered a user namespace.
pub(crate) fn payload() -> Option<&'static str> {
    ORIGIN.get().map(|origin| origin.payload.as_str())
}

/// Why this process has a single id; `None` if it has more. To be reported as a fallback.
pub(crate) fn single_id_reason() -> Option<SingleIdReason> {
    if let Some(reason) = ORIGIN.get().and_then(|origin| origin.single_id.clone()) {
        return Some(reason);
    }
    matches!(privilege(), Ok(Privilege::Namespace { ids: 1 })).then_some(SingleIdReason::StartedInside)
}

/// Adds the hints that only this process knows: why ids are missing, and that a filter around kiln refuses calls.
pub(in crate::sandbox) fn explain(mut failure: SetupFailure) -> SetupFailure {
    if failure.ids
        && let Some(reason) = single_id_reason()
    {
        failure.hint = Some(Hint::SingleId(reason));
    } else if failure.ids && failure.errno != Some(libc::EPERM) {
        failure.hint = Some(Hint::UnmappedId);
    }
    if failure.hint.is_none() && failure.fault == Fault::Host {
        failure.hint = failure.errno.and_then(NamespaceObstacle::of_call).map(Hint::Obstacle);
    }
    failure
}
