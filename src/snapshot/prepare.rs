//! A writable root over a stack of layers.

use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::layer::{MergedTree, copy_tree, keep_counts};

use super::{Error, Stack};

/// A writable root in a scratch directory, discarded with that directory.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// To be mounted by the sandbox.
    Overlay {
        /// Read-only layers, topmost first.
        lowers: Vec<PathBuf>,
        /// Receives the changes; has the mode, owner and times that `/` shows.
        upper: PathBuf,
        /// The work directory of overlayfs.
        work: PathBuf,
        /// Where the sandbox may make mount targets; it does not exist yet.
        stub: PathBuf,
        /// Overlayfs keeps its attributes in `user.*`.
        userxattr: bool,
    },
    /// A directory that holds everything.
    Copy {
        /// The directory.
        root: PathBuf,
        /// Directory for further names of files in it, outside the root.
        beside: PathBuf,
    },
}

impl Prepared {
    /// An overlay in the empty directory `scratch` over `lowers`. `/` has the mode, owner and times of the directory `root`.
    pub(crate) fn overlay(lowers: Stack, root: Option<&Path>, scratch: &Path, userxattr: bool) -> Result<Self, Error> {
        let [upper, work, stub] = ["upper", "work", "stub"].map(|name| scratch.join(name));
        for dir in [&upper, &work] {
            fs::create_dir(dir, 0o755)?;
        }
        if let Some(root) = root {
            fs::copy_metadata(root, &upper)?;
        }
        Ok(Self::Overlay { lowers: lowers.into_lowers(), upper, work, stub, userxattr })
    }

    /// A copy in the empty directory `scratch` of the files of `merged`, which are in `lowers`, bottom first.
    pub(crate) fn copy(merged: &MergedTree, lowers: &[PathBuf], scratch: &Path) -> Result<Self, Error> {
        let [root, beside] = ["root", "beside"].map(|name| scratch.join(name));
        fs::create_dir(&root, 0o755)?;
        fs::create_dir(&beside, 0o700)?;
        copy_tree(merged, lowers, &root).map_err(Error::Copy)?;
        keep_counts(merged, &root, &beside).map_err(Error::Copy)?;
        Ok(Self::Copy { root, beside })
    }

    /// The directory that can be a lower layer of the next step, if there is one.
    pub(crate) fn fresh(&self) -> Option<PathBuf> {
        match self {
            Prepared::Overlay { upper, .. } => Some(upper.clone()),
            Prepared::Copy { .. } => None,
        }
    }

    /// Where the changes are: the upper directory, or the whole root.
    pub(crate) fn changed(&self) -> &Path {
        match self {
            Prepared::Overlay { upper, .. } => upper,
            Prepared::Copy { root, .. } => root,
        }
    }
}
