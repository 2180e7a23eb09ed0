//! The graph of stages: what each stage starts from and which stages it refers to (F-2…F-11).
//!
//! **Holds.** `resolve` resolves every FROM to a `root`; `stages` resolves names; `from` finds the references in an
//! instruction; `cycle` reports circular dependencies. Which stages a target needs: `reach`.

mod cycle;
mod from;
mod resolve;
mod root;
mod stages;

pub(super) use from::{mount_from, references};
pub(super) use resolve::graph;
pub(super) use root::Root;
pub(super) use stages::Graph;
