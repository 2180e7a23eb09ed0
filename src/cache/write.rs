//! Writing small files of the cache.

use std::path::Path;

use crate::base::{fs, publish};

use super::error::Error;

/// Publishes `bytes` at `path`, and makes its directory if that is missing. A file with these bytes is left alone: to
/// read a file is far cheaper than to make one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read_spare(path).is_some_and(|there| there == bytes) {
        fs::touch(path);
        return Ok(());
    }
    Ok(publish::atomic_over(path, bytes, 0o600)?)
}
