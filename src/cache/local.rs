//! The cache in the store: a directory with one file per record.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::damage::Checked;
use crate::base::digest::StepKey;
use crate::base::fs;
use crate::base::notice::Notices;
use crate::base::time::Timestamp;
use crate::oci::descriptor::Descriptor;

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

    /// The record of `key`, marked as used, because pruning removes the least recently used first. A damaged record is reported
    /// and removed, so that its step runs again.
    pub(crate) fn get(&self, key: StepKey) -> Result<Option<Record>, Error> {
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

    /// Stores a record, whose blobs are stored. Ok: [`Local::get`] finds it, unless it is pruned or lost. Does not sync: a
    /// record lost in a power failure costs one more run of its step.
    pub(crate) fn record(&self, record: &Record) -> Result<(), Error> {
        write(&self.path(record.parts.key()), &record.to_bytes())
    }

    fn path(&self, key: StepKey) -> PathBuf {
        let hex = key.hex();
        self.dir.join("v1").join(&hex[..2]).join(hex)
    }
}
