//! One stage: its instructions, in order, as steps and as changes to its config.
//!
//! **Holds.** What every instruction shares (`place`): where it stands, expansion, history, steps. What each one does:
//! `config` (those that only describe the image), `run`, `mounts`, `copy`; `instruction` dispatches.

mod config;
mod copy;
mod instruction;
mod mounts;
mod place;
mod run;

pub(super) use place::{Place, StageState};
