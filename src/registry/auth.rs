//! Access tokens: asked for when a registry says it wants one, kept, renewed.
//!
//! **Holds.** One token per (registry, scope); parallel requests wait for the first to fetch it. A token server is
//! spoken to over TLS unless the registry itself is one we speak plain HTTP with (S-58, S-60).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use serde::Deserialize;

use super::Error;
use super::credentials::{Credential, Credentials};
use super::http::{Ask, Http};
use super::url::Url;

const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// No registry needs a longer one, and servers in between refuse longer headers.
const MAX_TOKEN: usize = 64 << 10;

/// `Authorization` values that registries have accepted or token servers have given.
pub(super) struct Auth {
    credentials: Credentials,
    tokens: Mutex<BTreeMap<(String, String), Slot>>,
}

/// Locked by whoever fetches the token, so that one does and the others wait.
type Slot = Arc<Mutex<Option<String>>>;

/// Whom a request is for.
#[derive(Clone, Debug)]
pub(super) struct Party {
    /// The registry as named in references.
    pub(super) registry: String,
    /// The repository.
    pub(super) repository: String,
    /// `pull`.
    pub(super) actions: &'static str,
}

impl Party {
    fn scope(&self) -> String {
        format!("repository:{}:{}", self.repository, self.actions)
    }
}

/// One `WWW-Authenticate` challenge.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, tokens: Mutex::new(BTreeMap::new()) }
    }

    /// What to send with a request, if anything is known yet.
    pub(super) fn known(&self, party: &Party) -> Option<String> {
        self.slot(party).lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to send after `url` answered 401 with `challenges` to a request that carried `sent`.
    /// `Ok(None)` = there is nothing better to send.
    pub(super) fn answer(
        &self,
        http: &Http,
        party: &Party,
        url: &Url,
        challenges: &[&str],
        sent: Option<&str>,
    ) -> Result<Option<String>, Error> {
        let slot = self.slot(party);
        let mut token = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if token.is_some() && token.as_deref() != sent {
            // Somebody else has fetched one while we waited.
            return Ok(token.clone());
        }
        *token = None;
        let challenges: Vec<Challenge> = challenges.iter().flat_map(|text| parse(text)).collect();
        let credential = self.credentials.lookup(&party.registry, &party.repository)?;
        let secret = url.tls || http.is_insecure(&url.authority);
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            if let Some(Credential::Bearer(given)) = &credential {
                let value = format!("Bearer {given}");
                *token = (secret && sent != Some(&value)).then_some(value);
            } else {
                *token = Some(format!("Bearer {}", self.fetch(http, party, url, bearer, credential.as_ref())?));
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

    /// Whether we have anything to offer the registry.
    pub(super) fn anonymous(&self, party: &Party) -> bool {
        matches!(self.credentials.lookup(&party.registry, &party.repository), Ok(None))
    }

    fn fetch(
        &self,
        http: &Http,
        party: &Party,
        registry: &Url,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<String, Error> {
        let protocol = |why: String| Error::Protocol { url: registry.shown(), why };
        let realm = challenge.parameters.get("realm").map(String::as_str).unwrap_or_default();
        let Some(mut url) = Url::parse(realm) else {
            return Err(protocol(format!("names {realm:?} as its token server, which is not an http or https URL")));
        };
        if !url.tls && !http.is_insecure(&url.authority) && (registry.tls || credential.is_some()) {
            return Err(protocol(format!("its token server {} is not reached over https", url.shown())));
        }
        let service = challenge.parameters.get("service").cloned().unwrap_or_default();
        let scope = challenge.parameters.get("scope").cloned().unwrap_or_else(|| party.scope());
        let ask = match credential {
            Some(Credential::Identity(refresh)) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", &service),
                    ("scope", &scope),
                    ("client_id", "kiln"),
                    ("refresh_token", refresh),
                ];
                Ask { method: ureq::http::Method::POST, form: Some(encode(&form)), ..Ask::get(url) }
            }
            other => {
                let mut query = vec![("scope", scope.as_str())];
                if !service.is_empty() {
                    query.insert(0, ("service", service.as_str()));
                }
                let separator = if url.target.contains('?') { '&' } else { '?' };
                url.target = format!("{}{separator}{}", url.target, encode(&query));
                let authorization = match other {
                    Some(Credential::Password { user, password }) => Some(basic(user, password)),
                    _ => None,
                };
                Ask { authorization, ..Ask::get(url) }
            }
        };
        let answer = http.send(&ask)?;
        if matches!(answer.status, 400 | 401 | 403) {
            let (host, status) = (answer.url.authority.clone(), answer.status);
            return Err(Error::Denied {
                what: format!("{}/{}", party.registry, party.repository),
                host,
                anonymous: credential.is_none(),
                reason: format!("{status} {}", answer.reason()).trim_end().to_owned(),
            });
        }
        if !answer.ok() {
            return Err(answer.into_error());
        }
        let shown = answer.url.shown();
        let bytes = answer.into_bytes(MAX_TOKEN_ANSWER)?;
        let token = serde_json::from_slice::<TokenAnswer>(&bytes).ok().and_then(|a| a.token.or(a.access_token));
        match token {
            Some(token)
                if !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                Ok(token)
            }
            _ => Err(Error::Protocol { url: shown, why: "its answer holds no usable token".to_owned() }),
        }
    }

    fn slot(&self, party: &Party) -> Slot {
        let key = (party.registry.clone(), party.scope());
        Arc::clone(self.tokens.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// `application/x-www-form-urlencoded`.
fn encode(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect::<Vec<_>>().join("&")
}

/// Reads a `WWW-Authenticate` value, which may hold several challenges (RFC 9110 §11.6.1). Leniently: what cannot be
/// read is passed over.
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

/// A token or quoted string, and what follows it.
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
    fn challenges_are_read_as_servers_write_them() {
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

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull"), ("x", "a b&c")]),
            "scope=repository%3Aa%2Fb%3Apull&x=a%20b%26c"
        );
    }
}
