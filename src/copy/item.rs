//! One source of a COPY or ADD.

use crate::context::{self, Content, Selected, SourceTree};

use super::remote::Pinned;
use super::view::Origin;

/// The files of a source.
pub(super) enum SourceFiles<'a> {
    Borrowed(&'a dyn SourceTree),
    Owned(Box<dyn SourceTree + Send + 'a>),
    /// A repository that is not here yet.
    Later(Box<Pinned>),
}

/// One source of the instruction: what it means, and what is in that.
pub(super) struct Item<'a> {
    /// Which: equal for sources of one tree, so that hard links between them are seen.
    pub(super) source: usize,
    pub(super) name: String,
    pub(super) tree: SourceFiles<'a>,
    pub(super) selected: Vec<Selected>,
    pub(super) contents: Vec<(Content, Vec<Content>)>,
    /// An archive is to be unpacked (C-26, C-27).
    pub(super) unpack: bool,
    /// The commit of a repository: it stands for all that is selected.
    pub(super) commit: Option<String>,
}

impl Item<'_> {
    /// Where what `origin` names is in the tree.
    pub(super) fn path(&self, origin: Origin) -> Vec<u8> {
        let selected = &self.selected[origin.selected()];
        match origin.inside() {
            Some(below) => context::join(&selected.path, &selected.below[below].path),
            None => selected.path.clone(),
        }
    }

    /// What it is.
    pub(super) fn meta(&self, origin: Origin) -> &context::Meta {
        let selected = &self.selected[origin.selected()];
        origin.inside().map_or(&selected.meta, |below| &selected.below[below].meta)
    }

    pub(super) fn tree(&self) -> &dyn SourceTree {
        match &self.tree {
            SourceFiles::Borrowed(tree) => *tree,
            SourceFiles::Owned(tree) => tree.as_ref(),
            SourceFiles::Later(_) => unreachable!("what is executed was completed"),
        }
    }
}
