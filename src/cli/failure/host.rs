//! Faults of the host that can cause any error: a full or read-only disk.

use std::io::ErrorKind;

/// The hint for a full disk.
pub(super) const FREE_SPACE: &str = "free disk space, or choose another store with --root or KILN_ROOT";

/// The hint for a store that cannot be written.
pub(in crate::cli) const OTHER_STORE: &str = "choose another store with --root or KILN_ROOT";

/// The hint, if a full or read-only disk is in the chain of `error`.
pub(super) fn host_fault(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Some(FREE_SPACE),
            Some(ErrorKind::ReadOnlyFilesystem) => return Some(OTHER_STORE),
            _ => next = error.source(),
        }
    }
    None
}
