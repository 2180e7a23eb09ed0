//! The files of a chain of layers, unpacked when the first of them is read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::base::fs::FsError;
use crate::copy::{self, LayerDirs, LayerFiles};
use crate::layer::MergedEntry;
use crate::snapshot::Snapshotter;

use super::chain::State;
use super::error::{Error, StepError};

/// The files of one chain.
pub(super) struct Unpacked<'s> {
    state: &'s State,
    /// `None`: layers are not unpacked yet, as in a sweep.
    snapshots: Option<&'s Snapshotter<'s>>,
    dirs: OnceLock<Option<LayerDirs>>,
    failed: Mutex<Option<Error>>,
}

impl<'s> Unpacked<'s> {
    /// The files of `state`.
    pub(super) fn new(state: &'s State, snapshots: Option<&'s Snapshotter<'s>>) -> Self {
        Self { state, snapshots, dirs: OnceLock::new(), failed: Mutex::default() }
    }

    /// The cause of a failed copy: a layer that could not be unpacked, otherwise `error`.
    pub(super) fn explain(&self, error: copy::Error) -> StepError {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => reason.into(),
            None => error.into(),
        }
    }

    fn dirs(&self) -> Result<LayerDirs, Error> {
        let dirs = self.state.directories(self.snapshots.ok_or(Error::Cold)?)?;
        LayerDirs::open(&dirs).map_err(|e| FsError::new("open", Path::new("unpacked layers"), e).into())
    }
}

impl LayerFiles for Unpacked<'_> {
    fn open(&self, found: &MergedEntry<'_>) -> io::Result<File> {
        let dirs = self.dirs.get_or_init(|| match self.dirs() {
            Ok(dirs) => Some(dirs),
            Err(reason) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                None
            }
        });
        match dirs {
            Some(dirs) => dirs.open(found),
            None => Err(io::Error::other("cannot unpack the layers")),
        }
    }
}
