//! Plans one stage: turns its instructions, in order, into steps and changes of its image config.
//!
//! **Holds.** `planner`: the stage's state, and what all instructions share (expansion, history, steps). One file per
//! kind of instruction: `config` (image config and WORKDIR), `run`, `mounts`, `copy`. `instruction` dispatches to them.

mod config;
mod copy;
mod instruction;
mod mounts;
mod planner;
mod run;

pub(super) use planner::{StagePlanner, StageState};
