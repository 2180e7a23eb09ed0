//! HTTP for everything that talks to servers: registries, and files by URL.
//!
//! **Holds.** A response of any status is a response, not an error. Redirects are followed here rather than by the HTTP
//! library, so that credentials stay with their origin and TLS is never left (S-58). Certificates are verified against
//! the roots of the host, except on loopback and for registries listed as insecure (S-60). Connecting, reading and
//! writing time out, and a body that trickles is given up (S-61).
//! **Order.** `request` → `client` (route, redirects, retries) → `response`.
//! **Not here.** What a response means: `registry`, `fetch`. Environment variables: proxies come in as [`Proxies`].

mod certificates;
mod client;
mod encoding;
mod error;
mod fault;
mod pace;
mod proxy;
mod request;
mod response;
mod retry;
mod tls;
mod url;

pub(crate) use certificates::{Authorities, Certificates};
pub(crate) use client::{Attempt, HttpClient, Verification};
pub(crate) use encoding::{basic_authorization, form_encode};
pub(crate) use error::HttpError;
pub(crate) use error::io_reason;
pub(crate) use fault::{TlsFault, Unreachable};
pub(crate) use pace::{Pace, is_slow};
pub(crate) use proxy::Proxies;
pub(crate) use request::{Payload, Request};
pub(crate) use response::Response;
pub(crate) use retry::{Timing, is_transient};
pub(crate) use url::Url;
