//! The messages between the outer and the inner process while a user namespace is created.

use serde::{Deserialize, Serialize};

use super::reason::SingleIdReason;

/// First argument of a kiln that becomes root of a user namespace; the number of a socket follows.
pub(in crate::sandbox) const ARGUMENT: &str = "@kiln-userns";

/// One message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Handshake {
    /// From the inner process: the namespace exists and has no ids yet.
    Ready,
    /// From the inner process: the namespace could not be created; the error number.
    Refused(i32),
    /// From the outer process: the id maps are written.
    Mapped {
        /// The reason, if there is only one id.
        single_id: Option<SingleIdReason>,
        /// Data from the caller of [`enter`](fn@super::enter).
        payload: String,
    },
}
