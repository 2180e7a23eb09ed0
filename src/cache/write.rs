//! Writes small cache files.

use std::path::Path;

use crate::base::{fs, publish};

use super::error::Error;

/// Writes `bytes` to `path` atomically, creating its directory if needed. A file that already has these bytes is only
/// touched: reading a file is far cheaper than creating one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read_spare(path).is_some_and(|old| old == bytes) {
        fs::touch(path);
        return Ok(());
    }
    Ok(publish::atomic_over(path, bytes, 0o600)?)
}
