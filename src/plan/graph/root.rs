//! What a stage or a `--from` stands for.

use std::collections::BTreeSet;

use crate::dockerfile::Diagnostic;
use crate::oci::platform::Platform;
use crate::plan::step::{ContextName, ImageRequest};

/// What is below a stage's first instruction, or behind a `--from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Root {
    /// Nothing (F-5).
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Box<ImageRequest>),
    /// A local context's files.
    Context(ContextName),
    /// It could not be read; that was reported.
    Unknown,
}

/// One stage's FROM, resolved.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Node {
    /// What the stage starts from.
    pub(in crate::plan) root: Root,
    /// What it is for, unless it starts from another stage.
    pub(in crate::plan) platform: Platform,
    /// A named context stands for the whole stage: its instructions do not count (F-11).
    pub(in crate::plan) replaced: bool,
    /// The global arguments that its FROM is made of.
    pub(in crate::plan) used: BTreeSet<String>,
    /// What is odd about its FROM: for those who build the stage.
    pub(in crate::plan) lints: Vec<Diagnostic>,
}
