//! What a build needs besides its plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cache::remote::{Remotes, Sender};
use crate::context::Dir;
use crate::device::Devices;
use crate::plan::{ContextName, ImageRequest, StepId};
use crate::sandbox::{Cancel, Spec};
use crate::store::Store;

use super::base_image::BaseImage;
use super::images::ImageSource;
use super::settings::Settings;

/// A directory that steps may read.
pub(crate) struct Context {
    /// The files, ignore rules applied.
    pub tree: Dir,
    /// The directory itself, for bind mounts.
    pub dir: PathBuf,
}

/// Everything a build needs besides its plan.
#[derive(Clone, Copy)]
pub(crate) struct Builder<'a> {
    /// Where blobs, layers, records and tags are.
    pub store: &'a Store,
    /// Where base images come from.
    pub images: &'a dyn ImageSource,
    /// The images the plan names, as resolved.
    pub bases: &'a BTreeMap<ImageRequest, BaseImage>,
    /// The devices the plan names, as found on this host.
    pub devices: &'a Devices,
    /// The contexts the plan names.
    pub contexts: &'a BTreeMap<ContextName, Context>,
    /// The shared caches that are read.
    pub remotes: &'a Remotes,
    /// The shared caches that are written.
    pub sender: &'a Sender,
    /// How to build.
    pub settings: &'a Settings,
    /// Set to stop everything.
    pub cancel: &'a Cancel,
    /// Called once with the first command that failed, after all steps have ended and before its files are discarded: a
    /// command with the same spec runs in the same place.
    pub on_failure: Option<&'a OnFailure<'a>>,
}

/// Runs something in the place of the command that failed.
pub(crate) type OnFailure<'a> = dyn Fn(StepId, &Spec) + Sync + 'a;
