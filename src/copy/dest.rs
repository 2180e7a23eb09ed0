//! Where a COPY, ADD or WORKDIR writes.

use crate::layer::{MergedTree, RelPath};

use super::layers::LayerFiles;

/// The file system to which files are copied.
pub(crate) struct Dest<'a> {
    /// Its files; empty for `--link` (C-19).
    pub tree: &'a MergedTree,
    /// For `--link`: the directories on the path of the destination that exist. The layer has no entries for them.
    pub passed: &'a [RelPath],
    /// Opens its files, to look up users and groups.
    pub files: &'a dyn LayerFiles,
}
