//! AST and arguments → graph of steps. No I/O.
//!
//! **Holds.** The plan as data: steps (`step`) and stages; what the user said beside the Dockerfile (`options`).
//! **Order.** A step's inputs have smaller ids than the step. Equal input gives equal plans: no clock, no
//! environment, no map order.
//! **Not here.** What a name resolves to, what a pattern selects: the plan holds names and patterns, whoever runs it
//! looks. What a base image's config says is asked for: planning answers `Planned::Needs` until it was given.

mod chmod;
pub mod device;
mod draft;
mod dump;
mod epoch;
mod globals;
mod gotext;
mod graph;
mod limit;
mod lints;
mod options;
pub mod outline;
mod paths;
mod planner;
mod ports;
mod reach;
mod remote;
mod result;
mod scope;
mod signal;
mod stage;
mod step;
mod trigger;
mod unsupported;

#[cfg(test)]
mod tests;

pub use chmod::{BadMode, Mode};
pub use device::{Device, DeviceName};
pub use epoch::{EpochSource, epoch_source};
pub use globals::{IGNORED_ARGS, KEEP_GIT_DIR};
pub use options::{Configs, NamedContext, Options};
pub use planner::plan;
pub use result::{HISTORY_COMMENT, Plan, Planned, PlannedHistory, PlannedStage, StageSummary};
pub use step::{
    Base, ContextName, Copy, CopyFrom, CopySource, ImageName, ImageRequest, Mount, Network, Run, RunFile, Security,
    Sharing, Step, StepId, StepKind, StepMeta, Workdir,
};
