//! A root that is a copy of its layers: makes a command leave in it what it would leave on overlayfs.

use std::error::Error as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::layer::{self, Baseline, Links, MergedTree, OnDisk, RelPath};
use crate::sandbox::{Effect, FileOperation, Watch, WatchScope, WatchedFile};
use crate::snapshot::Prepared;

use super::error::StepError;

/// A copied root before its command runs.
pub(super) struct Original {
    /// The layers it is a copy of.
    pub(super) layers: Arc<MergedTree>,
    /// The files in it.
    pub(super) baseline: Baseline,
}

/// Handles file operations of the command that behave differently in a copy than on overlayfs.
pub(super) struct Copied<'a>(Links<'a>);

impl<'a> Copied<'a> {
    /// `None` if `prepared` is not a copy.
    pub(super) fn new(prepared: &Prepared, original: Option<&'a Original>) -> Result<Option<Self>, StepError> {
        match (prepared, original) {
            (Prepared::Copy { root, beside }, Some(original)) => {
                Ok(Some(Self(Links::new(root, beside, &original.layers, &original.baseline)?)))
            }
            _ => Ok(None),
        }
    }
}

impl Watch for Copied<'_> {
    fn scope(&self) -> WatchScope {
        if self.0.is_empty() { WatchScope::Renames } else { WatchScope::All }
    }

    fn before(&self, operation: FileOperation, file: &WatchedFile) -> io::Result<Effect> {
        // A path that a layer cannot represent is in no layer.
        let Ok(path) = RelPath::parse(file.path.as_os_str().as_bytes()) else { return Ok(Effect::Unchanged) };
        let on_disk = OnDisk { device: file.device, inode: file.inode, born: file.born };
        let replaced = match operation {
            FileOperation::Rename if file.is_dir && self.0.is_below(&path, &on_disk) => {
                return Err(rustix::io::Errno::XDEV.into());
            }
            FileOperation::Unlink => self.0.keep_count(&path, &on_disk).map(|()| false),
            FileOperation::Modify | FileOperation::Rename => self.0.copy_up(&path, &on_disk),
        };
        match replaced {
            Ok(true) => Ok(Effect::Replaced),
            Ok(false) => Ok(Effect::Unchanged),
            Err(error) => Err(cause(&error)),
        }
    }
}

/// The system call's error in the chain of `error`.
fn cause(error: &layer::Error) -> io::Error {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        source = error.source();
    }
    io::Error::other(error.to_string())
}
