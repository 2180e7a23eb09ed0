//! What planning gives: the plan as data.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;
use crate::dockerfile::Diagnostic;
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;

use super::outline::Outline;
use super::step::{ImageName, ImageRequest, Step, StepId};

/// The comment of every history entry that an instruction makes, as BuildKit writes it (I-14).
pub const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// What planning gives.
#[derive(Clone, Debug)]
pub enum Planned {
    /// The configs of these images are needed first: ask again with them.
    Needs(BTreeSet<ImageRequest>),
    /// The plan.
    Done(Box<Plan>),
}

/// What to do, in an order that is possible.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every step the target needs; `steps[i].id == StepId(i)`.
    pub steps: Vec<Step>,
    /// The stages that the target needs, in the Dockerfile's order.
    pub stages: Vec<StageSummary>,
    /// The target: what becomes the image.
    pub image: PlannedStage,
    /// `created` of the config and of every new history entry: SOURCE_DATE_EPOCH, else the epoch (A20).
    pub created: Timestamp,
    /// SOURCE_DATE_EPOCH if it was given: times of files in new layers that are later are clamped to it.
    pub clamp: Option<Timestamp>,
    /// Lints (with a code) and other warnings; nothing that stops a build.
    pub warnings: Vec<Diagnostic>,
    /// Images that were assumed to say nothing ([`super::Options::assume_bases`]).
    pub assumed: BTreeSet<ImageName>,
    /// What the target takes from outside: for `check --outline`.
    pub outline: Outline,
    /// Build arguments that nothing in the file names, each with the name that was perhaps meant.
    pub unused_args: BTreeMap<String, Option<String>>,
}

impl Plan {
    /// The stage that becomes the image.
    pub fn target_stage(&self) -> &PlannedStage {
        &self.image
    }

    /// The step called `id`.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.index()]
    }
}

/// A stage that the target needs.
#[derive(Clone, Debug)]
pub struct StageSummary {
    /// Lower-case; absent if the FROM names none.
    pub name: Option<String>,
    /// Its number in the Dockerfile.
    pub index: usize,
    /// What it is for.
    pub platform: Platform,
    /// The image at the bottom: of its own FROM, or of the stage that its FROM names.
    pub base: Option<ImageRequest>,
    /// The step whose filesystem is the stage's.
    pub last: StepId,
}

/// The stage that becomes an image, as far as it is known before anything runs.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Lower-case; absent if the FROM names none.
    pub name: Option<String>,
    /// Its number in the Dockerfile.
    pub index: usize,
    /// What it is for.
    pub platform: Platform,
    /// The image at the bottom: of its own FROM, or of the stage that its FROM names.
    pub base: Option<ImageRequest>,
    /// The step whose filesystem is the stage's.
    pub last: StepId,
    /// The image's config. `config`, `author`, `created` and platform are final; `rootfs` and `history` are the base
    /// image's own, to be continued.
    pub config: ImageConfig,
    /// What follows the base image's history.
    pub history: Vec<PlannedHistory>,
}

/// One entry of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHistory {
    /// The instruction as text.
    pub created_by: String,
    /// MAINTAINER at that point.
    pub author: Option<String>,
    /// Who wrote the entry: [`HISTORY_COMMENT`].
    pub comment: String,
    /// The step that makes its layer; absent for an `empty_layer`.
    pub layer: Option<StepId>,
}
