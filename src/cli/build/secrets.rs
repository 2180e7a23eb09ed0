//! Reading the secrets of `--secret`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use crate::base::fs::{self, FsError};
use crate::cli::failure::Failure;
use crate::cli::request::SecretFrom;

/// The largest secret, in bytes (M-12).
const LONGEST_SECRET: usize = 500 << 10;

/// Reads the secrets. Each is read once, because it may be a pipe, and held in memory only (S-110).
pub(super) fn read(given: &BTreeMap<String, SecretFrom>) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut secrets = BTreeMap::new();
    for (id, from) in given {
        let bytes = match from {
            SecretFrom::Value(bytes) => bytes.clone(),
            SecretFrom::File(path) => secret(path).map_err(|e| Failure::usage(format!("--secret {id}: {e}")))?,
        };
        if bytes.len() > LONGEST_SECRET {
            return Err(Failure::usage(format!("--secret {id}: larger than {} KiB", LONGEST_SECRET >> 10)));
        }
        secrets.insert(id.clone(), bytes);
    }
    Ok(secrets)
}

/// The file of a secret, up to one byte more than the limit.
fn secret(path: &Path) -> Result<Vec<u8>, FsError> {
    let mut bytes = Vec::new();
    let read = fs::open(path)?.take(LONGEST_SECRET as u64 + 1).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|e| FsError::new("read", path, e))
}
