//! What all requests to registries share: options, connections, tokens.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::transport::{HttpClient, Proxies, Timing};

use super::RegistryError;
use super::auth::Auth;
use super::credentials::Credentials;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Credentials by registry.
    pub credentials: Credentials,
    /// Registries (`host` or `host:port`) whose certificates are not verified, and that may speak plain HTTP. Loopback
    /// addresses need not be listed (S-60).
    pub insecure: Vec<String>,
    /// Mirrors in order of preference, each with the registry it mirrors (named as in references: `docker.io`).
    pub mirrors: Vec<(String, String)>,
    /// Proxies.
    pub proxies: Proxies,
    /// Attempts and time-outs.
    pub timing: Timing,
}

/// A client for all registries; shared by threads.
pub(crate) struct Client {
    pub(super) http: HttpClient,
    pub(super) auth: Auth,
    /// Whether an insecure host speaks TLS, as far as that is known.
    pub(super) speaks_tls: Mutex<BTreeMap<String, bool>>,
    pub(super) mirrors: Vec<(String, String)>,
    mirror_failures: Mutex<Vec<MirrorFailure>>,
    credential_problems: Mutex<Vec<CredentialProblem>>,
}

/// A mirror that did not give what it was asked for; the registry itself was asked instead.
#[derive(Debug)]
pub(crate) struct MirrorFailure {
    /// The mirror.
    pub host: String,
    /// Why it failed.
    pub error: RegistryError,
}

/// A credential file that cannot be used.
#[derive(Debug)]
pub(crate) struct CredentialProblem {
    /// The file.
    pub origin: String,
    /// What is wrong with it.
    pub why: String,
}

impl Client {
    /// A client; nothing is sent before the first request.
    pub(crate) fn new(options: Options) -> Self {
        let problems = options.credentials.problems();
        let problems =
            problems.map(|(origin, why)| CredentialProblem { origin: origin.to_owned(), why: why.to_owned() });
        Self {
            credential_problems: Mutex::new(problems.collect()),
            http: HttpClient::new(options.proxies, options.insecure, options.timing),
            auth: Auth::new(options.credentials),
            speaks_tls: Mutex::new(BTreeMap::new()),
            mirrors: options.mirrors,
            mirror_failures: Mutex::default(),
        }
    }

    /// The credential files that cannot be used; each is reported once.
    pub(crate) fn take_credential_problems(&self) -> Vec<CredentialProblem> {
        std::mem::take(&mut self.credential_problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The mirrors that failed since the last call.
    pub(crate) fn take_mirror_failures(&self) -> Vec<MirrorFailure> {
        std::mem::take(&mut self.mirror_failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a mirror's failure to be reported; equal ones only once.
    pub(super) fn mirror_failed(&self, host: &str, error: RegistryError) {
        let mut failures = self.mirror_failures.lock().unwrap_or_else(PoisonError::into_inner);
        let text = error.to_string();
        if !failures.iter().any(|known| known.host == host && known.error.to_string() == text) {
            failures.push(MirrorFailure { host: host.to_owned(), error });
        }
    }

    /// Ends running requests and refuses new ones, until [`Client::resume`].
    pub(crate) fn cancel(&self) {
        self.http.cancel();
    }

    /// Accepts requests again after [`Client::cancel`].
    pub(crate) fn resume(&self) {
        self.http.resume();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.http.check_cancelled().is_err()
    }
}
