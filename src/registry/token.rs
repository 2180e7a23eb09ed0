//! Token servers: from a challenge to an access token (distribution's token specification, and its form for OAuth2).
//!
//! **Holds.** Credentials go to the server that the registry names, over TLS unless the registry itself may be reached over
//! plain HTTP, and to no host that this server redirects to (S-58).

use std::time::Duration;

use serde::Deserialize;
use ureq::http::Method;

use crate::base::url::redacted;
use crate::transport::{HttpClient, HttpError, Payload, Request, Response, Url, basic_authorization, form_encode};

use super::RegistryError;
use super::challenge::Challenge;
use super::credential::Credential;
use super::error::Refusal;
use super::scope::Scope;

const MAX_TOKEN_RESPONSE: u64 = 1 << 20;
/// Longer tokens do not fit into the headers that servers accept.
const MAX_TOKEN: usize = 64 << 10;
/// The name of this client for token servers.
const CLIENT: &str = "kiln";
/// How long a token is valid if its server does not say (token specification, "Token Response Fields").
const DEFAULT_LIFETIME: u64 = 60;
/// A token that lives longer is renewed all the same.
const LONGEST_LIFETIME: u64 = 24 * 3600;

/// What a token server gave.
pub(super) struct Token {
    /// For the registry.
    pub(super) access: String,
    /// For this server, in place of the password.
    pub(super) refresh: Option<String>,
    /// The time for which the access token is valid.
    pub(super) lifetime: Duration,
}

/// What a token is asked with.
pub(super) struct Asking<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) scope: &'a Scope,
    /// The registry's address.
    pub(super) registry: &'a Url,
    /// The registry's `Bearer` challenge.
    pub(super) challenge: &'a Challenge,
    pub(super) credential: Option<&'a Credential>,
    /// Whether a refresh token is wanted, too.
    pub(super) refresh: bool,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    /// Seconds; some servers send text.
    expires_in: Option<serde_json::Value>,
}

impl Asking<'_> {
    /// Fetches a token from the server that the challenge names.
    pub(super) fn fetch(&self) -> Result<Token, RegistryError> {
        let Self { http, registry, credential, .. } = self;
        let protocol = |why: String| HttpError::Protocol { url: registry.without_query(), why };
        let realm = self.challenge.parameter("realm").unwrap_or_default();
        let Some(url) = Url::parse(realm) else {
            let why = format!("names {:?} as its token server, which is not an http or https URL", redacted(realm));
            return Err(protocol(why).into());
        };
        if !url.tls && !http.is_insecure(&url.authority) && (registry.tls || credential.is_some()) {
            let why = format!("its token server {} is not reached over https", url.without_query());
            return Err(protocol(why).into());
        }
        let response = self.ask(url)?;
        if matches!(response.status, 400 | 401 | 403) {
            return Err(self.denied(response));
        }
        if !response.is_success() {
            return Err(response.into_error().into());
        }
        let url = response.url.without_query();
        let bytes = response.into_bytes(MAX_TOKEN_RESPONSE)?;
        let unusable = || HttpError::Protocol { url, why: "its response holds no usable token".to_owned() };
        Ok(usable(&bytes).ok_or_else(unusable)?)
    }

    fn denied(&self, response: Response) -> RegistryError {
        let (host, status) = (response.url.authority.clone(), response.status);
        let refusal = match (self.credential, status) {
            (None, _) => Refusal::Anonymous,
            (_, 403) => Refusal::Access,
            _ => Refusal::Credentials,
        };
        let (registry, repository) = (self.scope.registry.clone(), &self.scope.repository);
        let what = format!("{registry}/{repository}").trim_end_matches('/').to_owned();
        let reason = format!("{status} {}", response.into_reason()).trim_end().to_owned();
        RegistryError::Denied { what, registry, host, refusal, reason }
    }

    /// A refresh token is exchanged by POST, anything else by GET.
    fn ask(&self, mut url: Url) -> Result<Response, HttpError> {
        let service = self.challenge.parameter("service").unwrap_or_default();
        let scopes = self.scope.wanted(self.challenge.parameter("scope"));
        if let Some(Credential::Identity(refresh)) = self.credential {
            let form = [
                ("grant_type", "refresh_token"),
                ("service", service),
                ("scope", &scopes.join(" ")),
                ("client_id", CLIENT),
                ("refresh_token", refresh),
            ];
            return self.http.send(&Request {
                method: Method::POST,
                payload: Payload::Form(&form),
                ..Request::get(url)
            });
        }
        let mut query: Vec<(&str, &str)> = Vec::new();
        query.extend(Some(("service", service)).filter(|(_, value)| !value.is_empty()));
        query.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
        let mut authorization = None;
        if let Some(Credential::Password { user, password }) = self.credential {
            query.push(("account", user));
            authorization = Some(basic(user, password));
        }
        if self.refresh {
            query.extend([("offline_token", "true"), ("client_id", CLIENT)]);
        }
        if !query.is_empty() {
            let separator = if url.target.contains('?') { '&' } else { '?' };
            url.target = format!("{}{separator}{}", url.target, form_encode(&query));
        }
        self.http.send(&Request { authorization, ..Request::get(url) })
    }
}

/// The token in a response, if it fits into a header.
fn usable(response: &[u8]) -> Option<Token> {
    let response: TokenResponse = serde_json::from_slice(response).ok()?;
    let fits = |token: &String| (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    let access = response.token.filter(|token| !token.is_empty()).or(response.access_token).filter(fits)?;
    let seconds = response.expires_in.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
    let seconds = seconds.unwrap_or(DEFAULT_LIFETIME).min(LONGEST_LIFETIME);
    Some(Token { access, refresh: response.refresh_token.filter(fits), lifetime: Duration::from_secs(seconds) })
}

/// The header for user name and password.
pub(super) fn basic(user: &str, password: &str) -> String {
    basic_authorization(format!("{user}:{password}").as_bytes())
}
