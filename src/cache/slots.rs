//! The key and files of each instruction in the previous build. They explain cache misses; no lookup depends on them.
//!
//! **On disk.** `slots/<id>`, a key; `slots/<id>.files`, the files that the step read. Both are sealed.

use std::path::{Path, PathBuf};

use crate::base::damage::Checked;
use crate::base::digest::StepKey;
use crate::base::fs;
use crate::base::sealed;
use crate::base::stable::StableHasher;

use super::error::Error;
use super::listing::Listing;
use super::write::write;

/// Identifies an instruction: which Dockerfile, stage and position. Not part of any key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(String);

impl Slot {
    /// The slot of `place` (stage and instruction) in the Dockerfile `file`.
    pub(crate) fn new(file: &str, place: &str) -> Self {
        let mut hasher = StableHasher::new("kiln.slot.v1");
        hasher.field("file", file.as_bytes()).field("place", place.as_bytes());
        Self(hasher.finish().hex()[..32].to_owned())
    }
}

/// The slots of a store.
#[derive(Debug)]
pub(crate) struct Slots {
    dir: PathBuf,
}

impl Slots {
    /// The slots in `dir` (`<store>/cache`); the first write creates their directory.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.join("slots") }
    }

    /// The key of `slot` in the previous build; `None` also if it cannot be read.
    pub(crate) fn key(&self, slot: &Slot) -> Option<StepKey> {
        let bytes = fs::read_spare(&self.dir.join(&slot.0)).and_then(sealed::open)?;
        String::from_utf8(bytes).ok()?.trim_end().parse().ok()
    }

    /// Stores the current key of `slot`.
    pub(crate) fn set_key(&self, slot: &Slot, key: StepKey) -> Result<(), Error> {
        write(&self.dir.join(&slot.0), &sealed::seal(format!("{key}\n").into_bytes()))
    }

    /// The files that `slot` read in the previous build, as far as the list can be read.
    pub(crate) fn files(&self, slot: &Slot) -> Option<Listing> {
        fs::read_spare(&self.files_path(slot)).and_then(sealed::open).and_then(|bytes| Listing::from_bytes(&bytes))
    }

    /// Stores the files that `slot` reads now.
    pub(crate) fn set_files(&self, slot: &Slot, files: &Listing) -> Result<(), Error> {
        write(&self.files_path(slot), &sealed::seal(files.to_bytes()))
    }

    /// Reads every file.
    pub(crate) fn check(&self) -> Result<Checked, Error> {
        let paths = fs::list(&self.dir)?.into_iter().map(|name| self.dir.join(name));
        let damaged =
            |content: Vec<u8>| sealed::open(content).is_none().then(|| "its digest does not match".to_owned());
        Ok(paths.map(|path| Checked::draft(&path).unwrap_or_else(|| Checked::read(&path, damaged))).collect())
    }

    fn files_path(&self, slot: &Slot) -> PathBuf {
        self.dir.join(&slot.0).with_added_extension("files")
    }
}
