//! Stages and what they stand on (F-2…F-11).

mod cycle;
mod from;
mod resolve;
mod root;
mod stages;

pub(super) use from::{mount_from, references};
pub(super) use resolve::graph;
pub(super) use root::Root;
pub(super) use stages::Graph;
