//! Files from elsewhere: URLs and git repositories, for ADD and as contexts.
//!
//! **Holds.** What is fetched is verified, bounded and cached by content; a repository cannot run anything or be read
//! outside its checkout (S-8, S-10). Passwords in URLs appear in no message.
//! **On disk.** In the directory the caller names: `sha256-<hex>` a file's bytes; `<hex of the URL>` what the server
//! said of it last time.
//! **Not here.** What is done with the files: `copy`; images: `registry`.

mod git;
mod http;

use std::path::Path;

use crate::base::fs::FsError;
use crate::registry::{self, Proxies, Timing};

pub use git::{Checkout, GitUrl};
pub use http::Fetched;

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Remote<'a> {
    /// Where fetched files are kept between builds; made if missing.
    pub cache: &'a Path,
    /// Space of this build, swept after it.
    pub scratch: &'a Path,
    /// What `git` and `ssh` find in their environment besides what they need: an agent's socket, proxies.
    pub env: &'a [(String, String)],
    /// No file is larger.
    pub max_bytes: u64,
    /// Ways to servers.
    pub proxies: Proxies,
    /// Patience with servers.
    pub timing: Timing,
}

impl<'a> Remote<'a> {
    /// Nothing in the environment, files up to 64 GiB.
    pub fn new(cache: &'a Path, scratch: &'a Path) -> Self {
        Self { cache, scratch, env: &[], proxies: Proxies::default(), timing: Timing::default(), max_bytes: 64 << 30 }
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
