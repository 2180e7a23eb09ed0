//! What each place in a Dockerfile had last time: it explains misses and never decides.
//!
//! **On disk.** `slots/<id>`, a key; `slots/<id>.files`, the files it read.

use std::path::{Path, PathBuf};

use crate::base::digest::StepKey;
use crate::base::fs;
use crate::base::stable::StableHasher;

use super::error::Error;
use super::listing::Listing;
use super::write::write;

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

/// The slots of a store.
#[derive(Debug)]
pub struct Slots {
    dir: PathBuf,
}

impl Slots {
    /// The slots below `dir` (`<store>/cache`); directories are made by the first write.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.join("slots") }
    }

    /// The key that `slot` had last time; `None` also if it cannot be read.
    pub fn key(&self, slot: &Slot) -> Option<StepKey> {
        let bytes = fs::read_spare(&self.dir.join(&slot.0))?;
        String::from_utf8(bytes).ok()?.trim_end().parse().ok()
    }

    /// Notes the key that `slot` has now.
    pub fn set_key(&self, slot: &Slot, key: StepKey) -> Result<(), Error> {
        write(&self.dir.join(&slot.0), format!("{key}\n").as_bytes())
    }

    /// The files that `slot` read last time, as far as they can be read.
    pub fn files(&self, slot: &Slot) -> Option<Listing> {
        fs::read_spare(&self.files_path(slot)).map(|bytes| Listing::from_bytes(&bytes))
    }

    /// Notes the files that `slot` reads now.
    pub fn set_files(&self, slot: &Slot, files: &Listing) -> Result<(), Error> {
        write(&self.files_path(slot), &files.to_bytes())
    }

    fn files_path(&self, slot: &Slot) -> PathBuf {
        self.dir.join(&slot.0).with_added_extension("files")
    }
}
