//! Access tokens: fetched when a registry asks for one, kept, renewed.
//!
//! **Holds.** One token per registry and scope; parallel requests wait for the first one to fetch it. One that is about to
//! expire is renewed before it is sent, one that a registry no longer accepts is renewed once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::transport::{HttpClient, HttpError, Url};

use super::RegistryError;
use super::challenge::Challenge;
use super::credential::Credential;
use super::credentials::Credentials;
use super::scope::Scope;
use super::token::{Asking, Token, basic};

/// A token is renewed this long before it expires, or after three quarters of a short life.
const MARGIN: Duration = Duration::from_secs(10);

/// Credentials, and the `Authorization` headers made from them.
pub(super) struct Auth {
    credentials: Credentials,
    tokens: Mutex<BTreeMap<(String, String), Slot>>,
}

/// Locked by the thread that fetches the token, while the others wait.
type Slot = Arc<Mutex<Held>>;

/// What is sent for one scope.
#[derive(Default)]
struct Held {
    header: Option<String>,
    renewal: Option<Renewal>,
}

/// When and where to ask for the next token.
struct Renewal {
    at: Instant,
    registry: Url,
    challenge: Challenge,
}

impl Held {
    /// Keeps a token that was asked for at `asked`.
    fn keep(&mut self, token: Token, asked: Instant, registry: &Url, challenge: &Challenge) {
        let at = asked + token.lifetime.saturating_sub(MARGIN.min(token.lifetime / 4));
        self.header = Some(format!("Bearer {}", token.access));
        self.renewal = Some(Renewal { at, registry: registry.clone(), challenge: challenge.clone() });
    }
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, tokens: Mutex::new(BTreeMap::new()) }
    }

    /// The credentials for all registries.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The header to send with a request, if one is known already.
    pub(super) fn known(&self, http: &HttpClient, scope: &Scope) -> Option<String> {
        let slot = self.slot(scope);
        let mut held = lock(&slot);
        if held.renewal.as_ref().is_some_and(|renewal| renewal.at <= Instant::now())
            && let Some(Renewal { registry, challenge, .. }) = held.renewal.take()
        {
            let asked = Instant::now();
            // Without a new token the old one is sent: the registry says whether it is still good, and then `respond` has
            // the error.
            if let Ok(token) = self.fetch(http, scope, &registry, &challenge) {
                held.keep(token, asked, &registry, &challenge);
            }
        }
        held.header.clone()
    }

    /// The header to send after `url` answered 401 with `challenges` to a request that carried `sent`. `Ok(None)` = no
    /// credentials are left to try.
    pub(super) fn respond(
        &self,
        http: &HttpClient,
        scope: &Scope,
        url: &Url,
        challenges: &[String],
        sent: Option<&str>,
    ) -> Result<Option<String>, RegistryError> {
        let slot = self.slot(scope);
        let mut held = lock(&slot);
        if held.header.is_some() && held.header.as_deref() != sent {
            // Another thread fetched one meanwhile.
            return Ok(held.header.clone());
        }
        *held = Held::default();
        let challenges = Challenge::all(challenges);
        let asked = Instant::now();
        let credential = self.credentials.lookup(&scope.registry, &scope.repository)?;
        let secret = url.tls || http.is_insecure(&url.authority);
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            if let Some(Credential::Bearer(given)) = &credential {
                let value = format!("Bearer {given}");
                held.header = (secret && sent != Some(&value)).then_some(value);
            } else {
                let credential = credential.as_ref();
                let asking = Asking { http, scope, registry: url, challenge: bearer, credential, refresh: false };
                held.keep(asking.fetch()?, asked, url, bearer);
            }
        } else if challenges.iter().any(|c| c.scheme == "basic")
            && let Some(Credential::Password { user, password }) = &credential
            && secret
        {
            let value = basic(user, password);
            held.header = (sent != Some(&value)).then_some(value);
        }
        Ok(held.header.clone())
    }

    fn fetch(
        &self,
        http: &HttpClient,
        scope: &Scope,
        registry: &Url,
        challenge: &Challenge,
    ) -> Result<Token, RegistryError> {
        let credential = self.credentials.lookup(&scope.registry, &scope.repository)?;
        Asking { http, scope, registry, challenge, credential: credential.as_ref(), refresh: false }.fetch()
    }

    /// Whether there are no credentials for the registry.
    pub(super) fn is_anonymous(&self, scope: &Scope) -> bool {
        matches!(self.credentials.lookup(&scope.registry, &scope.repository), Ok(None))
    }

    fn slot(&self, scope: &Scope) -> Slot {
        let key = (scope.registry.clone(), scope.text());
        Arc::clone(self.tokens.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Held> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The header that answers a registry's challenges with user name and password, and the refresh token that its token
/// server gave for them.
pub(super) fn answer(
    http: &HttpClient,
    registry: &str,
    url: &Url,
    challenges: &[String],
    credential: &Credential,
) -> Result<(String, Option<String>), RegistryError> {
    let challenges = Challenge::all(challenges);
    let protocol = |why: &str| HttpError::Protocol { url: url.without_query(), why: why.to_owned() };
    if !url.tls && !http.is_insecure(&url.authority) {
        return Err(protocol("is not reached over https").into());
    }
    if let Some(challenge) = challenges.iter().find(|c| c.scheme == "bearer") {
        let (scope, credential) = (Scope::of_login(registry), Some(credential));
        let token = Asking { http, scope: &scope, registry: url, challenge, credential, refresh: true }.fetch()?;
        return Ok((format!("Bearer {}", token.access), token.refresh));
    }
    match credential {
        Credential::Password { user, password } if challenges.iter().any(|c| c.scheme == "basic") => {
            Ok((basic(user, password), None))
        }
        _ => Err(protocol("asks for credentials in a way that kiln does not know").into()),
    }
}
