//! Names for temporary files and directories.

use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// `prefix` with this process's id and a number: no other live process, and no earlier call, gives the same name. A
/// process that has ended may have left a file with it.
pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
