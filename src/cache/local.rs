//! Records as files.

use std::path::{Path, PathBuf};

use crate::base::digest::StepKey;
use crate::base::stable::StableHasher;
use crate::base::time::Timestamp;
use crate::base::{fs, publish};

use super::{Error, Listing, Record};

/// The place of a step: which Dockerfile, stage and instruction. Not part of any key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(String);

impl Slot {
    /// The slot called `place` (stage and instruction) of the Dockerfile called `file`.
    pub fn new(file: &str, place: &str) -> Self {
        let mut hasher = StableHasher::new("kiln.slot.v1");
        hasher.field("file", file.as_bytes()).field("place", place.as_bytes());
        Self(hasher.finish().hex()[..32].to_owned())
    }
}

/// The cache directory of a store. Many processes use it at once: files appear whole, the last writer of equal
/// records wins.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
}

impl Local {
    /// The cache below `dir` (`<store>/cache`); directories are made when first written to.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// `Ok(None)` = looked, and there is no record. Finding one counts as use: gc takes the longest unused first.
    pub fn lookup(&self, key: StepKey) -> Result<Option<Record>, Error> {
        let path = self.path(key);
        let Some(bytes) = fs::read_opt(&path)? else { return Ok(None) };
        fs::touch(&path);
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Damaged { path: path.display().to_string(), source })
    }

    /// Every record with its file and the time it was made or last found; one that cannot be read has no content.
    pub fn all(&self) -> Result<Vec<(PathBuf, Timestamp, Option<Record>)>, Error> {
        let mut found = Vec::new();
        for short in fs::list(&self.dir.join("v1"))? {
            let dir = self.dir.join("v1").join(short);
            for name in fs::list(&dir)? {
                let path = dir.join(name);
                let Some(bytes) = fs::read_opt(&path)? else { continue };
                let used = fs::modified(&path)?;
                found.push((path, used, serde_json::from_slice(&bytes).ok()));
            }
        }
        Ok(found)
    }

    /// Ok: a lookup of the record's key finds it. Call it after the blobs it names are stored.
    pub fn record(&self, record: &Record) -> Result<(), Error> {
        let path = self.path(record.parts.key());
        write(&path, &serde_json::to_vec(record).expect("a record has only string keys"))
    }

    /// The key that `slot` had last time.
    pub fn last(&self, slot: &Slot) -> Result<Option<StepKey>, Error> {
        let bytes = fs::read_opt(&self.slot(slot))?;
        // A torn or foreign slot explains nothing; it decides nothing either.
        Ok(bytes.and_then(|b| String::from_utf8(b).ok()).and_then(|text| text.trim_end().parse().ok()))
    }

    /// Remembers the key that `slot` has now.
    pub fn remember(&self, slot: &Slot, key: StepKey) -> Result<(), Error> {
        write(&self.slot(slot), format!("{key}\n").as_bytes())
    }

    /// The files that `slot` read last time.
    pub fn last_files(&self, slot: &Slot) -> Result<Option<Listing>, Error> {
        Ok(fs::read_opt(&self.files(slot))?.map(|bytes| Listing::from_bytes(&bytes)))
    }

    /// Remembers the files that `slot` reads now.
    pub fn remember_files(&self, slot: &Slot, files: &Listing) -> Result<(), Error> {
        write(&self.files(slot), &files.to_bytes())
    }

    fn files(&self, slot: &Slot) -> PathBuf {
        self.slot(slot).with_added_extension("files")
    }

    fn path(&self, key: StepKey) -> PathBuf {
        let hex = key.hex();
        self.dir.join("v1").join(&hex[..2]).join(hex)
    }

    fn slot(&self, slot: &Slot) -> PathBuf {
        self.dir.join("slots").join(&slot.0)
    }
}

/// Publishes `bytes` at `path`, making its directory only when it turns out to be missing. What says so already is left
/// alone: reading a file is far cheaper than making one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read_opt(path)?.is_some_and(|there| there == bytes) {
        fs::touch(path);
        return Ok(());
    }
    match publish::atomic(path, bytes, 0o600) {
        Err(e) if e.is_not_found() => {
            if let Some(dir) = path.parent() {
                fs::ensure_dir(dir)?;
            }
            Ok(publish::atomic(path, bytes, 0o600)?)
        }
        other => Ok(other?),
    }
}
