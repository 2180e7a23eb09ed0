//! Why a server could not be used.

use std::io;
use std::time::Duration;

use super::fault::{TlsFault, Unreachable};

/// A request that got no usable response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The server answered with an error.
    #[error("{url}: {status}{}{}", if .reason.is_empty() { String::new() } else { format!(": {}", .reason) }, tried_until(*.attempts, *.retry_after))]
    Status {
        /// The URL, without its query.
        url: String,
        /// HTTP status.
        status: u16,
        /// The server's explanation.
        reason: String,
        /// Requests sent.
        attempts: u32,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, or the connection broke and stayed broken.
    #[error("{url}: {reason}{}", tried(*.attempts))]
    Network {
        /// The URL, without its query.
        url: String,
        /// The last failure.
        reason: String,
        /// Requests sent.
        attempts: u32,
    },
    /// There is no connection to the server.
    #[error("{url}: {why}")]
    Unreachable {
        /// The URL, without its query.
        url: String,
        /// Why there is none.
        why: Unreachable,
    },
    /// The server's certificate is not valid, or it does not speak TLS.
    #[error("{host}: TLS: {fault}")]
    Tls {
        /// `host` or `host:port`.
        host: String,
        /// What is wrong.
        fault: TlsFault,
    },
    /// A redirect that must not or cannot be followed.
    #[error("{url}: {why}")]
    Redirect {
        /// The URL that redirects, without its query.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The request or the response is not valid.
    #[error("{url}: {why}")]
    Protocol {
        /// The URL, without its query.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The caller cancelled the request.
    #[error("interrupted")]
    Cancelled,
}

impl HttpError {
    /// TLS failed with a server that does speak it.
    pub(crate) fn speaks_tls(&self) -> bool {
        matches!(self, Self::Tls { fault, .. } if !matches!(fault, TlsFault::NotTls | TlsFault::Closed))
    }

    /// The failure of the last of so many requests.
    pub(crate) fn after(self, sent: u32) -> Self {
        match self {
            Self::Network { url, reason, .. } => Self::Network { url, reason, attempts: sent },
            Self::Status { url, status, reason, retry_after, .. } => {
                Self::Status { url, status, reason, attempts: sent, retry_after }
            }
            other => other,
        }
    }
}

/// [`tried`], and when the server wants to be asked again.
fn tried_until(attempts: u32, retry_after: Option<Duration>) -> String {
    let tried = (attempts > 1).then(|| format!("tried {attempts} times"));
    let later = retry_after.filter(|wait| !wait.is_zero());
    let later = later.map(|wait| format!("the server asks to wait {} s", wait.as_secs()));
    let all: Vec<String> = tried.into_iter().chain(later).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
}

fn tried(attempts: u32) -> String {
    if attempts > 1 { format!(" (tried {attempts} times)") } else { String::new() }
}

/// The reason for an I/O error, without the prefix and the error number that libraries add.
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("io: ").unwrap_or(&text);
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut chars = text.chars();
    match chars.next() {
        // `Connection reset by peer` becomes lower case, `InvalidCertificate` stays.
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
