//! The distribution protocol: pulling and pushing manifests, configs and layers.
//!
//! **Holds.** Bytes from the network reach a store only through [`crate::oci::blob::BlobSink::accept`], which verifies
//! size and digest (S-50). Manifests and configs are limited to 4 MiB (S-53), token responses and error bodies to less.
//! Credentials go to the registry and to the token server that it names, never to the target of a redirect (S-58, S-59),
//! and over plain HTTP only to loopback and to registries listed as insecure (S-60).
//! **Order.** `client` (what requests share) → `repository` (one request) → `download`, `parts`, `upload` (one blob)
//! → `pull`, `push` (an image). A mutable tag is read once, by `Client::resolve`; what follows is addressed by digest.
//! **Not here.** Connections, redirects, retries: `transport`. Environment variables and credential files: their contents
//! come in as [`Options`]. Where blobs are stored: the caller's store.

mod artifact;
mod auth;
mod challenge;
mod client;
mod credential;
mod credentials;
mod document;
mod download;
mod error;
mod helper;
mod login;
mod parts;
mod pull;
mod push;
mod repository;
mod rules;
mod scope;
mod token;
mod upload;

pub(crate) use client::{Client, Options};
pub(crate) use credentials::{Credentials, HelperAnswers};
pub(crate) use error::{Missing, Refusal, RegistryError};
pub(crate) use login::{CredentialFile, Kept};
pub(crate) use pull::Manifests;
pub(crate) use push::{Holders, PushObserver, is_behind};
pub(crate) use rules::Rules;
pub(crate) use upload::Arrival;

#[cfg(test)]
mod tests;
