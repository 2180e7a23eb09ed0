//! The result of planning: the plan as data.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;
use crate::dockerfile::Diagnostic;
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;

use super::outline::Outline;
use super::step::{ImageName, ImageRequest, Step, StepId};

/// The comment of every history entry of an instruction, as in BuildKit (I-14).
pub(crate) const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// The result of planning.
#[derive(Clone, Debug)]
pub enum Planned {
    /// The configs of these images are missing: fetch them and plan again.
    Needs(BTreeSet<ImageRequest>),
    /// The plan.
    Done(Box<Plan>),
}

/// The steps of a build, in an order that satisfies their dependencies.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every step the target needs; `steps[i].id == StepId(i)`.
    pub steps: Vec<Step>,
    /// The stages that the target needs, in the Dockerfile's order.
    pub stages: Vec<StageSummary>,
    /// The target stage, which becomes the image.
    pub image: PlannedStage,
    /// `created` of the config and of every new history entry: SOURCE_DATE_EPOCH, else the epoch (A20).
    pub created: Timestamp,
    /// SOURCE_DATE_EPOCH, if set: later file times in new layers are clamped to it.
    pub clamp: Option<Timestamp>,
    /// Lints (with a code) and other warnings; no errors.
    pub warnings: Vec<Diagnostic>,
    /// Images whose config was assumed to be empty ([`super::Options::assume_bases`]).
    pub assumed: BTreeSet<ImageName>,
    /// The parameters of the target, for `check --outline`.
    pub outline: Outline,
    /// Build arguments that the file does not declare, each with the name that was probably meant.
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
    /// Its platform.
    pub platform: Platform,
    /// The base image: of its own FROM, or of the stage that its FROM names.
    pub base: Option<ImageRequest>,
    /// The step that produces the stage's filesystem.
    pub last: StepId,
}

/// The stage that becomes the image, as far as it is known before any step runs.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Lower-case; absent if the FROM names none.
    pub name: Option<String>,
    /// Its number in the Dockerfile.
    pub index: usize,
    /// Its platform.
    pub platform: Platform,
    /// The base image: of its own FROM, or of the stage that its FROM names.
    pub base: Option<ImageRequest>,
    /// The step that produces the stage's filesystem.
    pub last: StepId,
    /// The image config. `config`, `author`, `created` and platform are final; `rootfs` and `history` are those of the
    /// base image, to be extended.
    pub config: ImageConfig,
    /// The entries that follow the base image's history.
    pub history: Vec<PlannedHistory>,
}

/// One entry of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHistory {
    /// The instruction as text.
    pub created_by: String,
    /// The MAINTAINER at that point.
    pub author: Option<String>,
    /// Who wrote the entry: [`HISTORY_COMMENT`].
    pub comment: String,
    /// The step that makes its layer; absent for an `empty_layer`.
    pub layer: Option<StepId>,
}
