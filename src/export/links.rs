//! Hard links of an image's files.

use std::collections::BTreeMap;

use crate::layer::{MergedEntry, RelPath};

/// The first names of files that have several.
#[derive(Default)]
pub(super) struct Links<'a>(BTreeMap<(usize, &'a RelPath), &'a RelPath>);

impl<'a> Links<'a> {
    /// The name under which the file at `found` was seen before; `None`: this is its first.
    pub(super) fn first(&mut self, found: &MergedEntry<'a>) -> Option<&'a RelPath> {
        let inode = (found.layer?, &found.inode().path);
        if found.is_dir() {
            return None;
        }
        match self.0.entry(inode) {
            std::collections::btree_map::Entry::Occupied(first) => Some(first.get()),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(found.path());
                None
            }
        }
    }
}
