//! Why a server could not be used.

use std::io;

use super::fault::{TlsFault, Unreachable};

/// A request that got no usable response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The server answered with an error.
    #[error("{url}: {status}{}{}", if .reason.is_empty() { String::new() } else { format!(": {}", .reason) }, tried(*.attempts))]
    Status {
        /// The URL, without its query.
        url: String,
        /// HTTP status.
        status: u16,
        /// The server's explanation.
        reason: String,
        /// Requests sent.
        attempts: u32,
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
    /// The failure of the last of so many requests.
    pub(crate) fn after(self, sent: u32) -> Self {
        match self {
            Self::Network { url, reason, .. } => Self::Network { url, reason, attempts: sent },
            Self::Status { url, status, reason, .. } => Self::Status { url, status, reason, attempts: sent },
            other => other,
        }
    }
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
