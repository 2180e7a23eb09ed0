//! Access tokens: fetched when a registry asks for one, kept, renewed.
//!
//! **Holds.** One token per registry and scope; parallel requests wait for the first one to fetch it. Token servers are
//! asked over TLS, unless the registry itself may be asked over plain HTTP (S-58, S-60).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use ureq::http::Method;

use crate::base::url::redacted;
use crate::transport::{HttpClient, HttpError, Payload, Request, Response, Url, basic_authorization, form_encode};

use super::RegistryError;
use super::credential::Credential;
use super::credentials::Credentials;

const MAX_TOKEN_RESPONSE: u64 = 1 << 20;
/// Longer tokens do not fit into the headers that servers accept.
const MAX_TOKEN: usize = 64 << 10;

/// Credentials, and the `Authorization` headers made from them.
pub(super) struct Auth {
    credentials: Credentials,
    tokens: Mutex<BTreeMap<(String, String), Slot>>,
}

/// Locked by the thread that fetches the token, while the others wait.
type Slot = Arc<Mutex<Option<String>>>;

/// What a token gives access to.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The registry, as references name it.
    pub(super) registry: String,
    /// The repository.
    pub(super) repository: String,
    /// `pull` or `pull,push`.
    pub(super) actions: &'static str,
    /// Another repository to pull from: the source of a mount.
    pub(super) also: Option<String>,
}

impl Scope {
    /// As token servers spell it: one or two words.
    fn text(&self) -> String {
        let own = format!("repository:{}:{}", self.repository, self.actions);
        match self.other() {
            Some(other) => format!("{own} {other}"),
            None => own,
        }
    }

    fn other(&self) -> Option<String> {
        Some(format!("repository:{}:pull", self.also.as_ref()?))
    }

    /// The scopes to ask for, given those that a challenge names; none for a login.
    fn wanted(&self, challenged: Option<&String>) -> Vec<String> {
        if self.repository.is_empty() {
            return Vec::new();
        }
        let mut wanted: Vec<String> = match challenged {
            Some(named) => named.split_ascii_whitespace().map(str::to_owned).collect(),
            None => self.text().split(' ').map(str::to_owned).collect(),
        };
        wanted.extend(self.other().filter(|other| !wanted.contains(other)));
        wanted
    }
}

/// One `WWW-Authenticate` challenge.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, tokens: Mutex::new(BTreeMap::new()) }
    }

    /// The header to send with a request, if one is known already.
    pub(super) fn known(&self, scope: &Scope) -> Option<String> {
        self.slot(scope).lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The header to send after `url` answered 401 with `challenges` to a request that carried `sent`. `Ok(None)` = no
    /// credentials are left to try.
    pub(super) fn respond(
        &self,
        http: &HttpClient,
        scope: &Scope,
        url: &Url,
        challenges: &[&str],
        sent: Option<&str>,
    ) -> Result<Option<String>, RegistryError> {
        let slot = self.slot(scope);
        let mut token = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if token.is_some() && token.as_deref() != sent {
            // Another thread fetched one meanwhile.
            return Ok(token.clone());
        }
        *token = None;
        let challenges: Vec<Challenge> = challenges.iter().flat_map(|text| parse(text)).collect();
        let credential = self.credentials.lookup(&scope.registry, &scope.repository)?;
        let secret = url.tls || http.is_insecure(&url.authority);
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            if let Some(Credential::Bearer(given)) = &credential {
                let value = format!("Bearer {given}");
                *token = (secret && sent != Some(&value)).then_some(value);
            } else {
                *token = Some(format!("Bearer {}", fetch_token(http, scope, url, bearer, credential.as_ref())?));
            }
        } else if challenges.iter().any(|c| c.scheme == "basic")
            && let Some(Credential::Password { user, password }) = &credential
            && secret
        {
            let value = basic(user, password);
            *token = (sent != Some(&value)).then_some(value);
        }
        Ok(token.clone())
    }

    /// The header that answers a registry's challenges with `credential`, to find out whether it is accepted.
    pub(super) fn answer(
        &self,
        http: &HttpClient,
        registry: &str,
        url: &Url,
        challenges: &[String],
        credential: &Credential,
    ) -> Result<String, RegistryError> {
        let challenges: Vec<Challenge> = challenges.iter().flat_map(|text| parse(text)).collect();
        let protocol = |why: &str| HttpError::Protocol { url: url.without_query(), why: why.to_owned() };
        if !url.tls && !http.is_insecure(&url.authority) {
            return Err(protocol("is not reached over https").into());
        }
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            let scope = Scope { registry: registry.to_owned(), repository: String::new(), actions: "", also: None };
            return Ok(format!("Bearer {}", fetch_token(http, &scope, url, bearer, Some(credential))?));
        }
        match credential {
            Credential::Password { user, password } if challenges.iter().any(|c| c.scheme == "basic") => {
                Ok(basic(user, password))
            }
            _ => Err(protocol("asks for credentials in a way that kiln does not know").into()),
        }
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

/// Fetches a token from the server that `challenge` names.
fn fetch_token(
    http: &HttpClient,
    scope: &Scope,
    registry: &Url,
    challenge: &Challenge,
    credential: Option<&Credential>,
) -> Result<String, RegistryError> {
    let protocol = |why: String| HttpError::Protocol { url: registry.without_query(), why };
    let realm = challenge.parameters.get("realm").map(String::as_str).unwrap_or_default();
    let Some(url) = Url::parse(realm) else {
        let why = format!("names {:?} as its token server, which is not an http or https URL", redacted(realm));
        return Err(protocol(why).into());
    };
    if !url.tls && !http.is_insecure(&url.authority) && (registry.tls || credential.is_some()) {
        return Err(protocol(format!("its token server {} is not reached over https", url.without_query())).into());
    }
    let response = ask_for_token(http, url, scope, challenge, credential)?;
    if matches!(response.status, 400 | 401 | 403) {
        let (host, status) = (response.url.authority.clone(), response.status);
        return Err(RegistryError::Denied {
            what: format!("{}/{}", scope.registry, scope.repository).trim_end_matches('/').to_owned(),
            host,
            anonymous: credential.is_none(),
            reason: format!("{status} {}", response.into_reason()).trim_end().to_owned(),
        });
    }
    if !response.is_success() {
        return Err(response.into_error().into());
    }
    let url = response.url.without_query();
    let bytes = response.into_bytes(MAX_TOKEN_RESPONSE)?;
    let token = serde_json::from_slice::<TokenResponse>(&bytes).ok().and_then(|a| a.token.or(a.access_token));
    let usable = |token: &String| (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    let why = || "its response holds no usable token".to_owned();
    Ok(token.filter(usable).ok_or_else(|| HttpError::Protocol { url, why: why() })?)
}

/// Asks for a token: a refresh token is exchanged by POST, anything else by GET.
fn ask_for_token(
    http: &HttpClient,
    mut url: Url,
    scope: &Scope,
    challenge: &Challenge,
    credential: Option<&Credential>,
) -> Result<Response, HttpError> {
    let service = challenge.parameters.get("service").map(String::as_str).unwrap_or_default();
    let scopes = scope.wanted(challenge.parameters.get("scope"));
    if let Some(Credential::Identity(refresh)) = credential {
        let form = form_encode(&[
            ("grant_type", "refresh_token"),
            ("service", service),
            ("scope", &scopes.join(" ")),
            ("client_id", "kiln"),
            ("refresh_token", refresh),
        ]);
        return http.send(&Request { method: Method::POST, payload: Payload::Form(&form), ..Request::get(url) });
    }
    let service = Some(("service", service)).filter(|(_, value)| !value.is_empty());
    let query: Vec<(&str, &str)> =
        service.into_iter().chain(scopes.iter().map(|scope| ("scope", scope.as_str()))).collect();
    if !query.is_empty() {
        let separator = if url.target.contains('?') { '&' } else { '?' };
        url.target = format!("{}{separator}{}", url.target, form_encode(&query));
    }
    let authorization = match credential {
        Some(Credential::Password { user, password }) => Some(basic(user, password)),
        _ => None,
    };
    http.send(&Request { authorization, ..Request::get(url) })
}

fn basic(user: &str, password: &str) -> String {
    basic_authorization(format!("{user}:{password}").as_bytes())
}

/// Reads a `WWW-Authenticate` value, which may hold several challenges (RFC 9110 §11.6.1). What cannot be read is
/// skipped.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = value_of(value);
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            if !word.is_empty() {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
            }
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or a quoted string, and the text after it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[i + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_servers_are_parsed() {
        let parsed =
            parse(r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#);
        assert_eq!(parsed.len(), 1);
        assert_eq!(parsed[0].scheme, "bearer");
        assert_eq!(parsed[0].parameters["scope"], "repository:a/b:pull,push");
        let parsed = parse(r#"Basic realm="a \"quoted\" name", bearer realm=https://x , error=invalid_token"#);
        assert_eq!(parsed.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["basic", "bearer"]);
        assert_eq!(parsed[0].parameters["realm"], "a \"quoted\" name");
        assert_eq!(parsed[1].parameters["error"], "invalid_token");
        for odd in ["", " ", "=", "Bearer", "Bearer realm=\"", ",,,", "a=b"] {
            let _ = parse(odd);
        }
    }
}
