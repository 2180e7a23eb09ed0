//! Where a COPY, ADD or WORKDIR writes.

use crate::layer::{MergedTree, RelPath};

use super::layers::LayerFiles;

/// Where files go.
pub struct Dest<'a> {
    /// What is there; an empty tree for `--link` (C-19).
    pub tree: &'a MergedTree,
    /// For `--link`: which of the directories that the destination names are there. The layer says nothing of them.
    pub passed: &'a [RelPath],
    /// Opens what is there, to look names up.
    pub files: &'a dyn LayerFiles,
}
