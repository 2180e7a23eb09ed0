//! A writable root over a stack of layers.

use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::layer::{MergedTree, copy_tree, keep_counts};

use super::{Error, Stack};

/// A writable root in a scratch directory; whoever owns the scratch directory discards it.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// To be mounted by the sandbox.
    Overlay {
        /// Read-only layers, topmost first.
        lowers: Vec<PathBuf>,
        /// Receives the changes; has the mode, owner and times that `/` shows.
        upper: PathBuf,
        /// Overlayfs's own.
        work: PathBuf,
        /// Where the sandbox may put mount targets; nothing is there.
        stub: PathBuf,
        /// Overlay's attributes live in `user.*`.
        userxattr: bool,
    },
    /// A directory that holds everything.
    Copy {
        /// The directory.
        root: PathBuf,
        /// For more names of files in it, out of sight.
        beside: PathBuf,
    },
}

impl Prepared {
    /// An overlay in the empty directory `scratch` over `lowers`. `/` shows mode, owner and times of the directory
    /// `root`.
    pub fn overlay(lowers: Stack, root: Option<&Path>, scratch: &Path, userxattr: bool) -> Result<Self, Error> {
        let [upper, work, stub] = ["upper", "work", "stub"].map(|name| scratch.join(name));
        for dir in [&upper, &work] {
            fs::create_dir(dir, 0o755)?;
        }
        if let Some(root) = root {
            fs::copy_metadata(root, &upper)?;
        }
        Ok(Self::Overlay { lowers: lowers.into_lowers(), upper, work, stub, userxattr })
    }

    /// A copy in the empty directory `scratch` of all that `merged` shows of `lowers`, given bottom first.
    pub fn copy(merged: &MergedTree, lowers: &[PathBuf], scratch: &Path) -> Result<Self, Error> {
        let [root, beside] = ["root", "beside"].map(|name| scratch.join(name));
        fs::create_dir(&root, 0o755)?;
        fs::create_dir(&beside, 0o700)?;
        copy_tree(merged, lowers, &root).map_err(Error::Copy)?;
        keep_counts(merged, &root, &beside).map_err(Error::Copy)?;
        Ok(Self::Copy { root, beside })
    }

    /// A directory that can be a layer of the next step's overlay, if there is one.
    pub fn fresh(&self) -> Option<PathBuf> {
        match self {
            Prepared::Overlay { upper, .. } => Some(upper.clone()),
            Prepared::Copy { .. } => None,
        }
    }

    /// Where the changes are: an overlay's upper, or the whole root.
    pub fn changed(&self) -> &Path {
        match self {
            Prepared::Overlay { upper, .. } => upper,
            Prepared::Copy { root, .. } => root,
        }
    }
}
