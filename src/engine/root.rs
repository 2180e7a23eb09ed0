//! The root of a command: an overlay over the layers below, or a copy of them.

use std::path::Path;

use crate::base::fs::FsError;
use crate::base::rooted::Root;
use crate::layer::Baseline;
use crate::sandbox::Rootfs;
use crate::snapshot::{Method, Prepared, Snapshotter};

use super::chain::State;
use super::copied_root::Original;
use super::error::StepError;

/// A writable root over the layers of `parent`, in the empty directory `scratch`; and its contents, if it is a copy.
pub(super) fn prepare(
    parent: &State,
    snapshots: &Snapshotter<'_>,
    scratch: &Path,
) -> Result<(Prepared, Option<Original>), StepError> {
    match snapshots.method() {
        Method::Overlay { userxattr } => {
            let lowers = parent.lowers(snapshots)?;
            Ok((Prepared::overlay(lowers, parent.root(snapshots)?.as_deref(), scratch, userxattr)?, None))
        }
        Method::Copy => {
            let dirs = parent.directories(snapshots)?;
            let merged = parent.merged(snapshots.layers())?;
            let prepared = Prepared::copy(&merged, &dirs, scratch)?;
            let root = prepared.changed();
            let baseline = Baseline::take(&Root::open(root).map_err(|e| FsError::new("open", root, e))?)?;
            Ok((prepared, Some(Original { layers: merged, baseline })))
        }
    }
}

/// The root for the sandbox. The directory `usual_targets` becomes the lowest layer.
pub(super) fn rootfs(prepared: &Prepared, usual_targets: &Path) -> Rootfs {
    match prepared.clone() {
        Prepared::Overlay { mut lowers, upper, work, stub, userxattr } => {
            lowers.push(usual_targets.to_owned());
            Rootfs::Overlay { lowers, upper, work, stub, userxattr, volatile: true }
        }
        Prepared::Copy { root, .. } => Rootfs::Dir(root),
    }
}
