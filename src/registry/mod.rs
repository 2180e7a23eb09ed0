//! The distribution protocol: pulling manifests, configs and layers from a registry.
//!
//! **Holds.** Bytes from the network reach a store only through [`crate::oci::blob::BlobSink::accept`], which verifies
//! size and digest (S-50). Manifests and configs are capped at 4 MiB (S-53), token answers and error bodies at less.
//! Credentials go to the registry that was asked for and to the token server it names, never to whom they redirect
//! (S-58, S-59), and over plain HTTP only to loopback and registries listed as insecure (S-60).
//! **Order.** A mutable tag is read once, by [`Client::resolve`]; what follows is addressed by digest.
//! **Not here.** The environment and credential files: their contents come in as [`Options`]. Where blobs go: the
//! caller's store.

mod auth;
mod client;
mod credentials;
mod document;
mod download;
mod error;
mod http;
mod pace;
mod pull;
mod retry;
mod url;
mod web;

pub use client::{Client, Options, Repository};
pub use credentials::{Credential, Credentials};
pub use error::Error;
pub use http::Proxies;
pub use pull::Pinned;
pub use retry::Timing;
pub use web::{Held, Page, Web};

#[cfg(test)]
mod tests;
