//! Verification of an unpacked layer.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rayon::prelude::*;

use crate::base::fs;

use super::changes::digest_of_file;
use super::entry::{Entry, EntryKind};
use super::tree::Tree;

/// Whether `dir`, where the layer of `tree` was unpacked, still has every file with its content. Every file is read: after a
/// power cut, a file system may show lost data as zeros, not only as missing or short files.
pub(crate) fn is_whole(dir: &Path, tree: &Tree) -> bool {
    tree.entries().par_iter().all(|entry| has(dir, entry))
}

fn has(dir: &Path, entry: &Entry) -> bool {
    let path = dir.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
    let is = |right: &dyn Fn(&Metadata) -> bool| std::fs::symlink_metadata(&path).is_ok_and(|found| right(&found));
    match &entry.kind {
        EntryKind::File { size, content } => {
            is(&|found| found.is_file() && found.len() == *size)
                && content.is_none_or(|content| {
                    fs::open(&path).is_ok_and(|file| digest_of_file(file, *size).is_ok_and(|found| found == content.0))
                })
        }
        EntryKind::Dir => is(&Metadata::is_dir),
        EntryKind::Symlink { .. } => is(&Metadata::is_symlink),
        EntryKind::Hardlink { .. } => is(&|found| !found.is_dir()),
        // Not every form and user can have these on disk.
        EntryKind::Char { .. }
        | EntryKind::Block { .. }
        | EntryKind::Fifo
        | EntryKind::Whiteout
        | EntryKind::Opaque => true,
    }
}
