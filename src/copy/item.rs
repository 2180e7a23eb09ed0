//! One source of a COPY or ADD.

use crate::context::{self, Content, Selected, SourceTree};

use super::remote::Pinned;
use super::view::Origin;

/// The files of a source.
pub(super) enum SourceFiles<'a> {
    /// A tree that is there anyway: a context or a stage.
    Borrowed(&'a dyn SourceTree),
    /// A tree for this source alone: a heredoc, a download, a repository.
    Owned(Box<dyn SourceTree + Send + 'a>),
    /// A repository that is fetched only if the step runs.
    Repository(Box<Pinned>),
}

/// One source of the instruction, and what was selected of it.
pub(super) struct Item<'a> {
    /// Number of the tree: sources of one tree have the same, so that hard links between them are found.
    pub(super) source: usize,
    /// For messages.
    pub(super) name: String,
    pub(super) tree: SourceFiles<'a>,
    pub(super) selected: Vec<Selected>,
    /// Digests of each selected file, and of those below it.
    pub(super) contents: Vec<(Content, Vec<Content>)>,
    /// Archives are unpacked (C-26, C-27).
    pub(super) unpack: bool,
    /// The commit of a repository, which stands for all its files.
    pub(super) commit: Option<String>,
}

impl Item<'_> {
    /// The path of `origin` in the tree.
    pub(super) fn path(&self, origin: Origin) -> Vec<u8> {
        let selected = &self.selected[origin.selected()];
        match origin.inside() {
            Some(below) => context::join(&selected.path, &selected.below[below].path),
            None => selected.path.clone(),
        }
    }

    /// The metadata of `origin`.
    pub(super) fn meta(&self, origin: Origin) -> &context::Meta {
        let selected = &self.selected[origin.selected()];
        origin.inside().map_or(&selected.meta, |below| &selected.below[below].meta)
    }

    /// The tree, which must have been fetched.
    pub(super) fn tree(&self) -> &dyn SourceTree {
        match &self.tree {
            SourceFiles::Borrowed(tree) => *tree,
            SourceFiles::Owned(tree) => tree.as_ref(),
            SourceFiles::Repository(_) => unreachable!("repositories are fetched before a step is executed"),
        }
    }
}
