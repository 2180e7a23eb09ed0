//! Turns a parsed Dockerfile and the build options into a plan: a graph of steps. No I/O.
//!
//! **Holds.** The input besides the Dockerfile (`options`); the plan as data: steps (`step`), stages and the target
//! image (`result`). `planner` runs the phases.
//! **Order.** Global arguments (`globals`), references between stages (`graph`), needed stages (`reach`), then each
//! stage in file order (`stage`). A step's inputs have smaller ids than the step. Equal input gives equal plans: no
//! clock, no environment, no map order.
//! **Not here.** The engine resolves image names and path patterns when it runs the plan. Planning needs the configs of
//! base images: it returns `Planned::Needs` until the caller passes them.

mod chmod;
pub(crate) mod device;
mod draft;
mod dump;
mod epoch;
mod globals;
mod gotext;
mod graph;
mod limit;
mod lints;
mod options;
pub(crate) mod outline;
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

pub(crate) use chmod::{BadMode, Mode};
pub(crate) use device::{Device, DeviceName};
pub(crate) use epoch::{EpochSource, epoch_source};
pub(crate) use globals::{IGNORED_ARGS, KEEP_GIT_DIR};
pub(crate) use options::NamedContext;
pub use options::{Configs, MaxAge, Options};
pub use planner::plan;
pub(crate) use result::PlannedStage;
pub use result::{Plan, Planned};
pub(crate) use step::{
    Base, ContextName, Copy, CopyFrom, CopySource, ImageName, ImageRequest, Mount, Network, Run, Security, Sharing,
    Step, StepId, StepKind, Workdir,
};
