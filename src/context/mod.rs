//! The files a build may read.
//!
//! **Holds.** A [`SourceTree`] is a tree of files that `COPY`, `ADD` and bind mounts read from: a context directory
//! after its ignore rules (`Dir`), or the merged layers of an image or stage (an adapter in `copy`). Paths are bytes relative
//! to the tree's root, without a leading, trailing or doubled slash and without `.` and `..`; the empty path is the
//! root. A tree never follows a symlink: `resolve` does, inside the tree (C-10, S-90).
//! **Order.** `select` selects files, `content` digests them for the key, the copy step reads them and checks that they are
//! what was digested (S-93).
//! **Not here.** Where the files go: `copy`. Archives and git repositories: they are unpacked to a directory first.

mod content;
mod dir;
mod error;
mod file;
mod glob;
mod ignore;
mod path;
mod select;
mod statindex;
mod tree;
mod walk;

pub(crate) use content::{Digested, Given, describe, digest};
pub use dir::{Dir, DirOptions};
pub(crate) use error::Error;
pub(crate) use file::{Content, FileKind, Inode, Meta, Node};
pub(crate) use glob::go_match;
pub use ignore::{IgnoreFile, Matcher};
pub(crate) use path::join;
pub use path::{anchor, clean};
pub(crate) use select::{Options, Selected, select};
pub(crate) use statindex::check as check_index;
pub use tree::SourceTree;

#[cfg(test)]
mod tests;
