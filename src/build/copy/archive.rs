//! Archives that ADD unpacks (C-26, C-27).
//!
//! **Holds.** Whether a file is an archive is decided by its content.

use std::io::Read;
use std::path::Path;

use crate::context::Selected;
use crate::layer::{self, RelPath};

use super::place::Placer;
use super::{Error, Item};

/// A tar header's size.
const BLOCK: usize = 512;
/// How gzip, zstd, bzip2 and xz begin.
const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];

/// An archive's entries, and its files' bytes.
pub(super) enum Spool {}

impl Spool {
    /// `None`: `selected` is a file like any other.
    pub(super) fn fill(item: &Item<'_>, selected: &Selected, _scratch: &Path) -> Result<Option<Self>, Error> {
        let reader = item.tree().open(&selected.path, &selected.meta)?;
        let mut head = Vec::with_capacity(BLOCK);
        let fail = |source| Error::Archive { name: item.name.clone(), source };
        reader.take(BLOCK as u64).read_to_end(&mut head).map_err(|e| fail(layer::Error::Write(e)))?;
        if head.get(257..262) == Some(b"ustar") || MAGIC.iter().any(|magic| head.starts_with(magic)) {
            let path = RelPath::parse(&selected.path)?;
            return Err(fail(layer::Error::NotRepresentable { path, reason: "archives cannot be unpacked yet" }));
        }
        Ok(None)
    }

    /// Puts the entries below the destination.
    pub(super) fn place(&mut self, _placer: &mut Placer<'_>, _spool: usize) -> Result<(), Error> {
        match *self {}
    }

    /// `size` bytes from `at` on.
    pub(super) fn read(&self, _at: u64, _size: u64) -> std::io::Empty {
        match *self {}
    }
}
