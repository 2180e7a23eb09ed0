//! The cache in the store: a directory with one file per record.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::damage::Checked;
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

/// Records as files in the store. Processes may use them concurrently: each file is written atomically, and the last
/// writer wins.
#[derive(Debug)]
pub(crate) struct Local {
    dir: PathBuf,
    notices: Notices,
}

impl Local {
    /// The cache in `dir` (`<store>/cache`); the first write creates its directories.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), notices: Notices::default() }
    }

    /// Reports damage to `notices`.
    pub(crate) fn with_notices(self, notices: &Notices) -> Self {
        Self { notices: notices.clone(), ..self }
    }

    /// Every record with its file and the time it was written or last used; `None` in place of one that cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<(PathBuf, Timestamp, Option<Record>)>, Error> {
        let mut found = Vec::new();
        for short in fs::list(&self.dir.join("v1"))? {
            let dir = self.dir.join("v1").join(short);
            // A stray file here has no records.
            for name in fs::list(&dir).unwrap_or_default() {
                let path = dir.join(name);
                let Ok(used) = fs::modified(&path) else { continue };
                let record = fs::read_spare(&path).and_then(|bytes| Record::from_bytes(&bytes).ok());
                found.push((path, used, record));
            }
        }
        Ok(found)
    }

    /// Reads the record of `key` and marks it as used, because pruning removes the least recently used first. A damaged
    /// record is reported and removed, so its step runs again.
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
        // Best effort: when the step runs again, it replaces the record.
        let _ = fs::remove(&path);
        Ok(None)
    }

    /// Reads every record; `has` says whether a blob is stored and whole.
    pub(crate) fn check(&self, has: &dyn Fn(&Descriptor) -> bool) -> Result<Checked, Error> {
        let mut checked = Checked::default();
        for short in fs::list(&self.dir.join("v1"))? {
            let dir = self.dir.join("v1").join(short);
            for name in fs::list(&dir).unwrap_or_default() {
                let path = dir.join(name);
                let one = Checked::draft(&path)
                    .unwrap_or_else(|| Checked::read(&path, |bytes| self.judge(&path, &bytes, has)));
                checked = checked.and(one);
            }
        }
        Ok(checked)
    }

    /// What is wrong with the record at `path`, which holds `bytes`.
    fn judge(&self, path: &Path, bytes: &[u8], has: &dyn Fn(&Descriptor) -> bool) -> Option<String> {
        match Record::from_bytes(bytes) {
            Err(why) => Some(why),
            Ok(record) if !record.is_written_as(bytes) => Some("its digest does not match".to_owned()),
            Ok(record) if self.path(record.parts.key()) != path => Some("it belongs to another step".to_owned()),
            Ok(record) if !record.blobs.values().any(has) => Some("its layer is missing or damaged".to_owned()),
            Ok(_) => None,
        }
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

    /// Does not sync: a record lost in a power failure costs one more run of its step.
    fn record(&self, records: &[Record]) -> Result<(), Error> {
        records.iter().try_for_each(|record| write(&self.path(record.parts.key()), &record.to_bytes()))
    }

    /// Its blobs are those of the store, so there is nowhere else to fetch from.
    fn fetch(&self, _: &Descriptor, _: &dyn BlobSink) -> Result<bool, Error> {
        Ok(false)
    }
}
