//! kiln builds container images from Dockerfiles without a daemon.

pub mod base;
pub mod oci;

pub mod context;
pub mod dockerfile;
pub mod layer;
pub mod registry;
pub mod sandbox;
pub mod store;

pub mod cache;
pub mod plan;
pub mod snapshot;

pub mod build;
pub mod cli;
pub mod ui;
