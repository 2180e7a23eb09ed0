//! Records as files.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::StepKey;
use crate::base::notice::Notices;
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
    notices: Notices,
}

impl Local {
    /// The cache below `dir` (`<store>/cache`); directories are made when first written to.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), notices: Notices::default() }
    }

    /// Damage is told to `notices`.
    pub fn telling(self, notices: &Notices) -> Self {
        Self { notices: notices.clone(), ..self }
    }

    /// `Ok(None)` = looked, and there is no record that can be read. Finding one counts as use: gc takes the longest
    /// unused first. A damaged one is said and removed: its step runs again.
    pub fn lookup(&self, key: StepKey) -> Result<Option<Record>, Error> {
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
        // Best effort: whoever makes the step again replaces it.
        let _ = fs::remove(&path);
        Ok(None)
    }

    /// Every record with its file and the time it was made or last found; one that cannot be read has no content.
    pub fn all(&self) -> Result<Vec<(PathBuf, Timestamp, Option<Record>)>, Error> {
        let mut found = Vec::new();
        for short in fs::list(&self.dir.join("v1"))? {
            let dir = self.dir.join("v1").join(short);
            // What is no directory is damage.
            for name in fs::list(&dir).unwrap_or_default() {
                let path = dir.join(name);
                let Ok(used) = fs::modified(&path) else { continue };
                let record = fs::read_spare(&path).and_then(|bytes| Record::from_bytes(&bytes).ok());
                found.push((path, used, record));
            }
        }
        Ok(found)
    }

    /// Ok: a lookup of the record's key finds it, unless a power cut loses it, which costs a run of its step. Call it after
    /// the blobs it names are stored.
    pub fn record(&self, record: &Record) -> Result<(), Error> {
        let path = self.path(record.parts.key());
        write(&path, &record.to_bytes())
    }

    /// The key that `slot` had last time.
    pub fn last(&self, slot: &Slot) -> Result<Option<StepKey>, Error> {
        let bytes = fs::read_spare(&self.slot(slot));
        // A torn or foreign slot explains nothing; it decides nothing either.
        Ok(bytes.and_then(|b| String::from_utf8(b).ok()).and_then(|text| text.trim_end().parse().ok()))
    }

    /// Remembers the key that `slot` has now.
    pub fn remember(&self, slot: &Slot, key: StepKey) -> Result<(), Error> {
        write(&self.slot(slot), format!("{key}\n").as_bytes()).map(drop)
    }

    /// The files that `slot` read last time.
    pub fn last_files(&self, slot: &Slot) -> Result<Option<Listing>, Error> {
        Ok(fs::read_spare(&self.files(slot)).map(|bytes| Listing::from_bytes(&bytes)))
    }

    /// Remembers the files that `slot` reads now.
    pub fn remember_files(&self, slot: &Slot, files: &Listing) -> Result<(), Error> {
        write(&self.files(slot), &files.to_bytes()).map(drop)
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
    if fs::read_spare(path).is_some_and(|there| there == bytes) {
        fs::touch(path);
        return Ok(());
    }
    Ok(publish::atomic_over(path, bytes, 0o600)?)
}
