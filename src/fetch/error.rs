//! Why something could not be fetched. URLs are without credentials.

use crate::base::fs::FsError;
use crate::transport::HttpError;

/// A file or repository that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not a URL that can be fetched.
    #[error("{url}: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server could not be reached, or did not send the file.
    #[error("cannot fetch {0}")]
    Http(#[from] HttpError),
    /// The file is larger than allowed; nothing of it is kept.
    #[error("cannot fetch {url}: larger than the limit of {max} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        max: u64,
    },
    /// The file or commit does not have the checksum that was asked for (C-24).
    #[error("{url}: checksum mismatch: want {want}, got {got}")]
    Checksum {
        /// The URL.
        url: String,
        /// The expected checksum.
        want: String,
        /// The actual one.
        got: String,
    },
    /// A secret that cannot be a header. Its content is not shown.
    #[error("the secret {id} is empty, or not one line of text")]
    Secret {
        /// Its id.
        id: String,
    },
    /// git failed.
    #[error("git {action} {url}: {why}")]
    Git {
        /// `fetch`, `checkout`, …
        action: &'static str,
        /// The repository.
        url: String,
        /// The cause, if git named one that is known.
        failure: GitFailure,
        /// What git printed.
        why: String,
    },
    /// A file of the cache or of scratch.
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// Why git failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GitFailure {
    /// The git command is not installed.
    NotInstalled,
    /// The server wants a user name and a password or token.
    AuthenticationRequired,
    /// The ssh server accepted none of the keys.
    KeyRejected,
    /// The ssh server's key is not in `known_hosts`.
    UnknownHostKey,
    /// The server's certificate is signed by an unknown authority.
    UnknownAuthority,
    /// The server redirects, and credentials are not sent to the target of a redirect.
    Redirected,
    /// The server does not support shallow clones.
    NoShallowClone,
    /// Something else.
    Other,
}
