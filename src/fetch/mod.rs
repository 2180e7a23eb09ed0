//! Files from elsewhere: URLs and git repositories, for ADD and as contexts.
//!
//! **Holds.** What is fetched is verified, bounded and cached by content; a repository cannot run anything or be read
//! outside its checkout (S-8, S-10). Passwords in URLs appear in no message.
//! **On disk.** In the directory the caller names: `sha256-<hex>` a file's bytes; `<hex of the URL>` what the server
//! said of it last time.
//! **Not here.** What is done with the files: `copy`; images: `registry`.

mod auth;
mod git;
mod giturl;
mod http;

use std::path::Path;

use crate::base::cancel::Cancel;
use crate::base::fs::FsError;
use crate::base::time::Timestamp;
use crate::registry::{self, Proxies, Timing};

pub use auth::Secrets;
pub use git::Commit;
pub use giturl::GitUrl;
pub use http::Fetched;

/// No file is larger, unless it is said otherwise.
pub const MAX_BYTES: u64 = 64 << 30;

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Remote<'a> {
    /// Where fetched files are kept between builds; made if missing.
    pub cache: &'a Path,
    /// Space of this build, swept after it.
    pub scratch: &'a Path,
    /// What `git` and `ssh` find in their environment besides what they need: an agent's socket, proxies.
    pub env: &'a [(String, String)],
    /// What says who asks.
    pub secrets: Secrets<'a>,
    /// When the build began. What a server was asked since then, by whichever process, it is not asked again: one build
    /// sees one state of it.
    pub since: Option<Timestamp>,
    /// What ends a transfer early.
    pub stop: Option<&'a Cancel>,
    /// No file is larger.
    pub max_bytes: u64,
    /// Ways to servers.
    pub proxies: Proxies,
    /// Patience with servers.
    pub timing: Timing,
}

impl<'a> Remote<'a> {
    /// Nothing in the environment, files up to [`MAX_BYTES`].
    pub fn new(cache: &'a Path, scratch: &'a Path) -> Self {
        Self {
            cache,
            scratch,
            env: &[],
            secrets: Secrets::default(),
            since: None,
            stop: None,
            proxies: Proxies::default(),
            timing: Timing::default(),
            max_bytes: MAX_BYTES,
        }
    }

    /// `at` is in this build.
    fn is_recent(&self, at: &str) -> bool {
        self.since.is_some_and(|since| at.parse::<Timestamp>().is_ok_and(|at| at >= since))
    }
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that can be fetched.
    #[error("{url}: {why}")]
    Url {
        /// Without its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server could not be reached or did not have it.
    #[error("fetch {0}")]
    Server(#[from] registry::Error),
    /// There was no whole answer.
    #[error("fetch {url}: {why}")]
    Network {
        /// Without its password.
        url: String,
        /// What happened.
        why: String,
    },
    /// More bytes than are allowed; what came of them is gone.
    #[error("fetch {url}: larger than the {max} bytes that are allowed")]
    TooLarge {
        /// Without its password.
        url: String,
        /// The limit.
        max: u64,
    },
    /// Other bytes than `--checksum` promises (C-24).
    #[error("{url}: checksum mismatch: want {want}, got {got}")]
    Checksum {
        /// Without its password.
        url: String,
        /// The promise.
        want: String,
        /// What came.
        got: String,
    },
    /// A secret that no header can hold; its content is not told.
    #[error("the secret {id} is empty, or no text of one line")]
    Secret {
        /// Its id.
        id: String,
    },
    /// git said no.
    #[error("git {action} {url}: {why}")]
    Git {
        /// `fetch`, `checkout`, …
        action: &'static str,
        /// Without its password.
        url: String,
        /// Its last words.
        why: String,
    },
    /// A file of our own.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl FetchError {
    /// What would help, if we know.
    pub fn hint(&self) -> Option<String> {
        let says = |why: &str, words: &[&str]| words.iter().any(|word| why.contains(word));
        match self {
            FetchError::Server(registry::Error::Status { status: 401 | 403, .. }) => {
                Some("if it asks who you are: --secret id=HTTP_AUTH_TOKEN_<host>,env=<variable>".into())
            }
            FetchError::Server(registry::Error::Status { status: 404 | 410, .. }) => {
                Some("the server has no such file: look at the URL".into())
            }
            FetchError::Server(registry::Error::Status { status: 500.., .. }) => {
                Some("the server is at fault: try again later".into())
            }
            FetchError::Server(registry::Error::Protocol { why, .. }) if says(why, &["redirects"]) => {
                Some("name the URL that has the file itself".into())
            }
            FetchError::Server(registry::Error::Network { .. }) | FetchError::Network { .. } => {
                Some("look at the URL and the network, or try again".into())
            }
            FetchError::Git { why, .. }
                if says(why, &["could not read Username", "Authentication failed", ": 403"]) =>
            {
                Some("if it asks who you are: --secret id=GIT_AUTH_TOKEN,env=<variable>".into())
            }
            FetchError::Git { why, .. } if says(why, &["Permission denied (publickey"]) => {
                Some("if it asks who you are: --ssh default for your agent, or --ssh default=<key>".into())
            }
            FetchError::Git { why, .. } if says(why, &["is not installed"]) => {
                Some("install git, or ADD an archive of the repository instead".into())
            }
            FetchError::Git { why, .. } if says(why, &["Host key verification"]) => {
                Some("ssh goes by ~/.ssh/known_hosts: ssh-keyscan <host> lists a host's keys".into())
            }
            FetchError::TooLarge { .. } => Some("KILN_MAX_DOWNLOAD=<size> allows more, or less".into()),
            FetchError::Checksum { .. } => {
                Some("what is there is not what the checksum was made of; if it is meant, change the checksum".into())
            }
            _ => None,
        }
    }
}

/// `url` without user name and password.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
