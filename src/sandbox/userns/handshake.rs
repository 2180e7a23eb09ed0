//! What the processes outside and inside say while a user namespace is made.

use serde::{Deserialize, Serialize};

use super::reason::SingleIdReason;

/// First argument of kiln run again as root of a user namespace; the number of a socket follows.
pub(in crate::sandbox) const ARGUMENT: &str = "@kiln-userns";

/// One message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Handshake {
    /// From inside: the namespace exists and has no ids yet.
    Ready,
    /// From inside: it could not be made; the error number.
    Refused(i32),
    /// From outside: its ids are written.
    Mapped {
        /// The reason, if there is only one.
        single_id: Option<SingleIdReason>,
        /// What the caller hands over.
        payload: String,
    },
}
