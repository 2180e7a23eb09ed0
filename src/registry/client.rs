//! What all requests to registries share: options, connections, tokens.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use crate::oci::reference::Reference;
use crate::transport::{Certificates, HttpClient, Proxies, Timing, Verification};

use super::RegistryError;
use super::auth::Auth;
use super::credentials::{Credentials, HelperAnswers};
use super::rules::Rules;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Credentials by registry.
    pub credentials: Credentials,
    /// Registries (`host` or `host:port`) whose certificates are not verified, and that may speak plain HTTP. Loopback
    /// addresses need not be listed (S-60).
    pub insecure: Vec<String>,
    /// Mirrors and other places of repositories.
    pub rules: Rules,
    /// Certificates by host, or why they cannot be used.
    pub certificates: BTreeMap<String, Result<Certificates, String>>,
    /// Certificates for all hosts.
    pub common: Certificates,
    /// Whose certificates are verified.
    pub verification: Verification,
    /// Files of the configuration that cannot be used, and why.
    pub problems: Vec<(String, String)>,
    /// Proxies.
    pub proxies: Proxies,
    /// Attempts and time-outs.
    pub timing: Timing,
}

impl Options {
    /// A client for hosts that are reached the same way, without credentials.
    pub(crate) fn http(&self) -> HttpClient {
        let insecure = self.insecure.iter().map(String::as_str).chain(self.rules.insecure_hosts());
        let insecure = insecure.map(str::to_owned).collect();
        HttpClient::new(self.proxies.clone(), insecure, self.timing.clone())
            .with_certificates(self.certificates.clone())
            .with_common(self.common.clone())
            .verifying(self.verification)
    }
}

/// A client for all registries; shared by threads.
pub(crate) struct Client {
    pub(super) http: HttpClient,
    pub(super) auth: Auth,
    /// Whether an insecure host speaks TLS, as far as that is known.
    pub(super) speaks_tls: Mutex<BTreeMap<String, bool>>,
    pub(super) rules: Rules,
    /// The number of threads that help with downloads.
    pub(super) helpers: AtomicUsize,
    mirror_failures: Mutex<Vec<MirrorFailure>>,
    problems: Mutex<Vec<Problem>>,
}

/// A mirror that did not give what it was asked for; the registry itself was asked instead.
#[derive(Debug)]
pub(crate) struct MirrorFailure {
    /// The mirror.
    pub host: String,
    /// Why it failed.
    pub error: RegistryError,
}

/// A file of credentials or configuration that cannot be used.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The file.
    pub origin: String,
    /// What is wrong with it.
    pub why: String,
}

impl Client {
    /// A client; nothing is sent before the first request.
    pub(crate) fn new(options: Options) -> Self {
        let problem = |(origin, why): (&str, &str)| Problem { origin: origin.to_owned(), why: why.to_owned() };
        let problems = options.problems.iter().map(|(origin, why)| (origin.as_str(), why.as_str()));
        let problems = problems.chain(options.credentials.problems()).map(problem).collect();
        let http = options.http();
        Self {
            problems: Mutex::new(problems),
            http,
            auth: Auth::new(options.credentials),
            speaks_tls: Mutex::new(BTreeMap::new()),
            rules: options.rules,
            helpers: AtomicUsize::new(0),
            mirror_failures: Mutex::default(),
        }
    }

    /// What credential helpers have answered so far.
    pub(crate) fn helper_answers(&self) -> HelperAnswers {
        self.auth.credentials().answers()
    }

    /// Asks the credential helper for `name`, if there is one and it was not asked before. An error is reported when the
    /// credential is needed.
    pub(crate) fn ask_helper(&self, name: &Reference) {
        let _ = self.auth.credentials().lookup(&name.registry, &name.repository);
    }

    /// The files that cannot be used; each is reported once.
    pub(crate) fn take_problems(&self) -> Vec<Problem> {
        std::mem::take(&mut self.problems.lock().unwrap_or_else(PoisonError::into_inner))
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
