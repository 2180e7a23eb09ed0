//! The trait of everything that files can be copied from.

use super::error::{Error, Excluded};
use super::file::{Content, Meta, Node};
use super::ignore::{Inherited, Matcher};
use super::path::join;
use crate::base::sparse::SparseRead;

/// A tree of files to copy from. Paths are relative to its root and are taken literally: no symlink is followed, so there is
/// nothing below one.
pub trait SourceTree: Sync {
    /// What `path` names, symlinks not followed. `None`: there is nothing, or an ignore rule excludes it.
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error>;

    /// The entries of directory `dir`, sorted by the bytes of their names, ignore rules applied.
    fn children(&self, dir: &[u8]) -> Result<Vec<Node>, Error>;

    /// The content of `path`, whose metadata is `meta`. A file that is known not to have changed is not read again.
    fn content(&self, path: &[u8], meta: &Meta) -> Result<Content, Error>;

    /// Opens the regular file `path`. The reader fails with [`Error::Changed`] inside its `io::Error` if the bytes are not those
    /// of [`SourceTree::content`] (S-93).
    fn open(&self, path: &[u8], meta: &Meta) -> Result<Box<dyn SparseRead + Send + '_>, Error>;

    /// Everything below directory `top` that no pattern of `exclude` (relative to `top`) excludes. A directory comes before its
    /// entries; siblings are sorted by the bytes of their names. `top` itself is not listed.
    fn walk(&self, top: &[u8], exclude: &[&Matcher]) -> Result<Vec<Node>, Error> {
        by_children(self, top, exclude)
    }

    /// The excluded paths below directory `top` that are not in an excluded directory: covering them covers everything that
    /// is excluded. Relative to the root, in order.
    fn hidden(&self, _top: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        Ok(Vec::new())
    }

    /// The ignore rule that excludes `path`, if one does (C-2, G-9).
    fn excluded_by(&self, _path: &[u8]) -> Option<Excluded> {
        None
    }
}

/// Everything below `top`, for trees that know only their directories' children.
fn by_children<T: SourceTree + ?Sized>(tree: &T, top: &[u8], exclude: &[&Matcher]) -> Result<Vec<Node>, Error> {
    let mut out = Vec::new();
    let held: Vec<_> = exclude.iter().map(|_| Inherited::default()).collect();
    descend(tree, top, b"", exclude, &held, &mut out)?;
    Ok(out)
}

fn descend<T: SourceTree + ?Sized>(
    tree: &T,
    top: &[u8],
    dir: &[u8],
    exclude: &[&Matcher],
    held: &[Inherited],
    out: &mut Vec<Node>,
) -> Result<(), Error> {
    for child in tree.children(&join(top, dir))? {
        let path = join(dir, &child.path);
        let rules = || exclude.iter().zip(held);
        let hidden = rules().any(|(matcher, held)| matcher.excludes_in(held, &path));
        let node = Node { path: path.clone(), meta: child.meta };
        if !child.meta.is_dir() {
            out.extend((!hidden).then_some(node));
            continue;
        }
        let below: Vec<_> = rules().map(|(matcher, held)| matcher.enter(held, &path)).collect();
        let searched = rules()
            .zip(&below)
            .all(|((matcher, held), below)| !matcher.excludes_in(held, &path) || matcher.may_keep_below(below, &path));
        let before = out.len();
        out.push(node);
        if searched {
            descend(tree, top, &path, exclude, &below, out)?;
        }
        if hidden && out.len() == before + 1 {
            out.pop();
        }
    }
    Ok(())
}
