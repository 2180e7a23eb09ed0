//! What can go wrong with a registry, by what a caller can do about it.

use crate::oci::blob::BlobError;
use crate::oci::image::ImageError;

/// Why the registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It wants credentials, or others than ours.
    #[error("{what}: {host} denied access{}: {reason}", if *.anonymous { " (no credentials for it)" } else { "" })]
    Denied {
        /// The image or blob.
        what: String,
        /// The registry.
        host: String,
        /// We had no credentials to offer.
        anonymous: bool,
        /// Its words.
        reason: String,
    },
    /// It has no such image or blob.
    #[error("{what}: not found on {host}")]
    NotFound {
        /// The image or blob.
        what: String,
        /// The registry.
        host: String,
    },
    /// It answered, but not with success.
    #[error("{url}: {status}{}{}", if .reason.is_empty() { String::new() } else { format!(": {}", .reason) }, tried(*.attempts))]
    Status {
        /// What was asked, without query.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
        /// How often it was asked.
        attempts: u32,
    },
    /// It could not be reached, or the connection broke and stayed broken.
    #[error("{url}: {reason}{}", tried(*.attempts))]
    Network {
        /// What was asked, without query.
        url: String,
        /// What happened last.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// It is not who it says, or does not speak TLS.
    #[error("{host}: TLS: {reason}")]
    Tls {
        /// The registry.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// It broke the protocol.
    #[error("{url}: {why}")]
    Protocol {
        /// What was asked, without query.
        url: String,
        /// What it did.
        why: String,
    },
    /// A credential file or helper is of no use.
    #[error("{origin}: {why}")]
    Credentials {
        /// The file or helper.
        origin: String,
        /// What is wrong.
        why: String,
    },
    /// What came is no image for this platform (S-54…S-56).
    #[error("{name}: {source}")]
    Image {
        /// The image.
        name: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// The store could not take it, or it was not what its digest says.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The caller asked to stop.
    #[error("interrupted")]
    Cancelled,
}

fn tried(attempts: u32) -> String {
    if attempts > 1 { format!(" (tried {attempts} times)") } else { String::new() }
}
