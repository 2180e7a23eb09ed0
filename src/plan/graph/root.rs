//! What a FROM or a `--from` refers to.

use std::collections::BTreeSet;

use crate::dockerfile::Diagnostic;
use crate::oci::platform::Platform;
use crate::plan::step::{ContextName, ImageRequest};

/// What a stage starts from, or what a `--from` refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Root {
    /// An empty file system (F-5).
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Box<ImageRequest>),
    /// A local context's files.
    Context(ContextName),
    /// Invalid, which was reported.
    Unknown,
}

/// One stage's FROM, resolved.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Node {
    /// What the stage starts from.
    pub(in crate::plan) root: Root,
    /// Its platform, unless it starts from another stage.
    pub(in crate::plan) platform: Platform,
    /// A named context replaces the whole stage, so its instructions are ignored (F-11).
    pub(in crate::plan) replaced: bool,
    /// The global arguments that its FROM uses.
    pub(in crate::plan) used: BTreeSet<String>,
    /// Lint warnings about its FROM, reported only if the stage is needed.
    pub(in crate::plan) lints: Vec<Diagnostic>,
}
