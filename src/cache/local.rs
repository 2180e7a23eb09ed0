//! The cache in the store: a directory of records.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::StepKey;
use crate::base::fs;
use crate::base::notice::Notices;
use crate::base::time::Timestamp;
use crate::oci::blob::BlobSink;
use crate::oci::descriptor::Descriptor;

use super::backend::CacheBackend;
use super::error::Error;
use super::record::Record;
use super::write::write;

/// Records as files of a store. Many processes use them at once: files appear whole, the last writer of equal records
/// wins.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
    notices: Notices,
}

impl Local {
    /// The cache below `dir` (`<store>/cache`); directories are made by the first write.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), notices: Notices::default() }
    }

    /// Reports damage to `notices`.
    pub fn telling(self, notices: &Notices) -> Self {
        Self { notices: notices.clone(), ..self }
    }

    /// Every record with its file and the time it was made or last found; one that cannot be read has no content.
    pub fn all(&self) -> Result<Vec<(PathBuf, Timestamp, Option<Record>)>, Error> {
        let mut found = Vec::new();
        for short in fs::list(&self.dir.join("v1"))? {
            let dir = self.dir.join("v1").join(short);
            // Anything but a directory is damage.
            for name in fs::list(&dir).unwrap_or_default() {
                let path = dir.join(name);
                let Ok(used) = fs::modified(&path) else { continue };
                let record = fs::read_spare(&path).and_then(|bytes| Record::from_bytes(&bytes).ok());
                found.push((path, used, record));
            }
        }
        Ok(found)
    }

    /// The record of `key`. Reading it counts as use: pruning removes the longest unused first. A damaged one is reported
    /// and removed: its step runs again.
    fn read(&self, key: StepKey) -> Result<Option<Record>, Error> {
        let path = self.path(key);
        let why = match fs::read_opt(&path) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => match Record::from_bytes(&bytes) {
                Ok(record) if record.parts.key() == key => {
                    fs::touch(&path);
                    return Ok(Some(record));
                }
                Ok(_) => "it belongs to another step".to_owned(),
                Err(why) => why,
            },
            Err(e) if e.source.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(e) => e.source.to_string(),
        };
        self.notices.note(format!("ignored the damaged cache record {}", path.display()), why);
        // Best effort: the step that runs again replaces it.
        let _ = fs::remove(&path);
        Ok(None)
    }

    fn path(&self, key: StepKey) -> PathBuf {
        let hex = key.hex();
        self.dir.join("v1").join(&hex[..2]).join(hex)
    }
}

impl CacheBackend for Local {
    fn lookup(&self, keys: &[StepKey]) -> Vec<Result<Option<Record>, Error>> {
        keys.iter().map(|&key| self.read(key)).collect()
    }

    /// Records are not synced: a power cut that loses one costs a run of its step.
    fn record(&self, records: &[Record]) -> Result<(), Error> {
        records.iter().try_for_each(|record| write(&self.path(record.parts.key()), &record.to_bytes()))
    }

    /// The blobs of its records are those of the store.
    fn fetch(&self, _: &Descriptor, _: &dyn BlobSink) -> Result<bool, Error> {
        Ok(false)
    }
}
