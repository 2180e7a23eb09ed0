//! Verification of downloads.

use std::path::Path;

use crate::base::damage::Checked;
use crate::base::digest::{Hashing, Sha256};
use crate::base::fs::{self, FsError};
use crate::base::sealed;

/// Reads every file in `cache`, except repositories: git verifies what it reads from them.
pub(crate) fn check(cache: &Path) -> Result<Checked, FsError> {
    let mut checked = Checked::default();
    for name in fs::list(cache)? {
        let (path, name) = (cache.join(&name), name.to_string_lossy().into_owned());
        checked = checked.and(match name.strip_prefix("sha256-") {
            _ if name.starts_with("git-") => Checked::default(),
            Some(hex) => file(&path, hex),
            None => Checked::draft(&path).unwrap_or_else(|| {
                Checked::read(&path, |content| {
                    sealed::open(content).is_none().then(|| "its digest does not match".to_owned())
                })
            }),
        });
    }
    Ok(checked)
}

/// A file that is named by its digest.
fn file(path: &Path, hex: &str) -> Checked {
    let digest = || -> std::io::Result<(Sha256, u64)> {
        let mut content = Hashing::new(std::fs::File::open(path)?);
        std::io::copy(&mut content, &mut std::io::sink())?;
        let (_, digest, size) = content.finish();
        Ok((digest, size))
    };
    match digest() {
        Ok((digest, size)) => Checked::file(
            path,
            size,
            (digest.hex() != hex).then(|| format!("it has the digest sha256:{}", digest.hex())),
        ),
        Err(e) => Checked::file(path, 0, Some(e.to_string())),
    }
}
