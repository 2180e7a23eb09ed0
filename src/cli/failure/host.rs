//! Faults of the host that any error may have as its cause.

use std::io::ErrorKind;

/// What helps when there is no space left.
pub(super) const FREE_SPACE: &str = "free some space, or choose another place for the store with --root or KILN_ROOT";

/// What helps where nothing can be written.
pub(in crate::cli) const ELSEWHERE: &str = "choose another place with --root or KILN_ROOT";

/// Some error in the chain is a full or read-only disk: what would help.
pub(super) fn host_fault(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Some(FREE_SPACE),
            Some(ErrorKind::ReadOnlyFilesystem) => return Some(ELSEWHERE),
            _ => next = error.source(),
        }
    }
    None
}
