//! What can go wrong with a registry, by what a caller can do about it.

use crate::oci::blob::BlobError;
use crate::oci::image::ImageError;
use crate::transport::HttpError;

/// Why the registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The registry wants credentials, or rejects those it was given.
    #[error("{what}: {host} denied access{}: {reason}", if *.refusal == Refusal::Anonymous { " (no credentials for it)" } else { "" })]
    Denied {
        /// The image or blob.
        what: String,
        /// The registry, as credentials name it.
        registry: String,
        /// The host that denied access: the registry's, its token server, or one that it redirects to.
        host: String,
        /// Why.
        refusal: Refusal,
        /// The registry's explanation.
        reason: String,
    },
    /// The registry has no such image or blob.
    #[error("{what}: not found on {host}{}", said(.missing))]
    NotFound {
        /// The image or blob.
        what: String,
        /// The registry.
        host: String,
        /// What of it.
        missing: Missing,
    },
    /// What the registry sent is not what it was asked for (S-50, S-51).
    #[error("{what}: wrong content from {host}: {reason}")]
    WrongContent {
        /// The image or blob.
        what: String,
        /// The registry or mirror.
        host: String,
        /// How size or digest differ.
        reason: String,
    },
    /// The registry could not be reached, answered with an error, or broke the protocol.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The configuration forbids the registry.
    #[error("{name}: blocked by {origin}")]
    Blocked {
        /// The image.
        name: String,
        /// The file.
        origin: String,
    },
    /// The configuration gives a short name another meaning than kiln.
    #[error("{name}: a short name, which {origin} does not read as {own}")]
    ShortName {
        /// The image.
        name: String,
        /// What kiln reads it as.
        own: String,
        /// What the configuration reads it as, and `own`.
        choices: Vec<String>,
        /// The file.
        origin: String,
    },
    /// A credential file or helper cannot be used.
    #[error("{origin}: {why}")]
    Credentials {
        /// The file or helper.
        origin: String,
        /// What is wrong.
        why: String,
    },
    /// The registry has no usable image for this platform (S-54…S-56).
    #[error("{name}: {source}")]
    Image {
        /// The image.
        name: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// The store could not take a blob, or refuses it.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Why access was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No credentials are configured for the registry.
    Anonymous,
    /// The credentials are wrong or have expired.
    Credentials,
    /// The credentials are accepted, but not for this.
    Access,
    /// A host that the registry redirects to wants credentials; it gets none (S-58).
    Elsewhere,
}

/// What a registry does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// An image that a name stands for.
    Image,
    /// A part of an image.
    Blob,
    /// The repository that is pushed to, in the registry's words.
    Repository(String),
}

fn said(missing: &Missing) -> String {
    match missing {
        Missing::Repository(reason) if !reason.is_empty() => format!(": {reason}"),
        _ => String::new(),
    }
}

impl RegistryError {
    /// The caller cancelled the request.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Http(HttpError::Cancelled))
    }
}
