//! kiln builds container images from Dockerfiles without a daemon.
//!
//! This file is the map; `docs/architecture.md` is the long form. A build goes through the modules like this:
//!
//! 1. [`cli`] turns arguments and environment into a request.
//! 2. [`dockerfile`] parses the Dockerfile; [`plan`] makes a graph of steps of it. Neither does any I/O.
//! 3. [`registry`] (over [`transport`]) and [`store`] say what image names stand for; [`context`] lists the files that a build may read.
//! 4. [`engine`] looks every step up in the [`cache`] and executes what is missing: [`copy`] chooses and places files
//!    ([`fetch`] gets those that are elsewhere), [`snapshot`] makes the root of a RUN, [`sandbox`] runs its command ([`device`]
//!    gives it devices), [`layer`] turns files and changes into layers.
//! 5. [`store`] keeps blobs, records and unpacked layers; it is an OCI image layout. An image is named last; [`export`] writes
//!    its files out.
//! 6. [`ui`] shows events and diagnostics; [`cli`] turns errors into messages and exit codes.
//!
//! [`base`] has what every module shares, [`oci`] the image specification as data. A module may name only those in its row
//! of the table in `tests/floors.rs`.
//!
//! Public is what `main.rs`, the tests, the benchmarks and the fuzz targets use. The rest is `pub(crate)` or less, so that
//! the compiler finds what nobody uses.
//!
//! Terms are in `docs/glossary.md`, trust and limits in `docs/security.md`, recipes for changes in `CONTRIBUTING.md`.

pub mod base;
pub mod oci;

pub mod context;
pub mod dockerfile;
pub mod layer;
mod registry;
pub mod sandbox;
mod store;
mod transport;

mod cache;
mod copy;
mod device;
mod export;
mod fetch;
pub mod plan;
pub mod snapshot;

pub mod cli;
mod engine;
pub mod ui;
