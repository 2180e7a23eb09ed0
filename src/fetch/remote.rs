//! How files and repositories are fetched.

use std::path::Path;

use crate::base::cancel::Cancel;
use crate::base::time::Timestamp;
use crate::transport::{Authorities, Proxies, Timing};

use super::secrets::Secrets;

/// The most bytes of a file, unless the caller sets another limit.
pub(crate) const MAX_BYTES: u64 = 64 << 30;

/// Fetches files (`http`) and repositories (`commit`, `checkout`).
#[derive(Clone, Debug)]
pub(crate) struct Remote<'a> {
    /// The directory that keeps fetched files between builds; created if missing.
    pub cache: &'a Path,
    /// A directory of this build, removed after it.
    pub scratch: &'a Path,
    /// Environment variables for `git` and `ssh` besides those that are always set: an agent's socket, proxies.
    pub env: &'a [(String, String)],
    /// Credentials.
    pub secrets: Secrets<'a>,
    /// When the build began. What any process has asked a server since then is not asked again, so that one build sees
    /// one state of the server.
    pub since: Option<Timestamp>,
    /// Ends a transfer early.
    pub stop: Option<&'a Cancel>,
    /// The most bytes of a file.
    pub max_bytes: u64,
    /// Proxies.
    pub proxies: Proxies,
    /// Authorities to trust besides those of the system.
    pub authorities: Option<&'a Authorities>,
    /// Attempts and time-outs.
    pub timing: Timing,
}

impl<'a> Remote<'a> {
    /// No credentials, no environment, files up to [`MAX_BYTES`].
    pub(crate) fn new(cache: &'a Path, scratch: &'a Path) -> Self {
        Self {
            cache,
            scratch,
            env: &[],
            secrets: Secrets::default(),
            since: None,
            stop: None,
            proxies: Proxies::default(),
            authorities: None,
            timing: Timing::default(),
            max_bytes: MAX_BYTES,
        }
    }

    /// Whether `asked` is within this build.
    pub(super) fn is_recent(&self, asked: &str) -> bool {
        self.since.is_some_and(|since| asked.parse::<Timestamp>().is_ok_and(|asked| asked >= since))
    }
}
