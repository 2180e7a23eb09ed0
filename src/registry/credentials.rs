//! Credentials by registry: Docker's `config.json`, containers' `auth.json`, credential helpers (O-76).
//!
//! **Holds.** A helper runs only when a registry asks for credentials, and once for each server.
//! **Not here.** Finding and reading files: their contents come in as data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::base::json::{null_default, null_values};
use crate::oci::reference::DEFAULT_REGISTRY;

use super::RegistryError;
use super::credential::Credential;
use super::helper::Helper;

/// Docker Hub's name in credential files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The contents of all credential files, in order of precedence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    files: Vec<(String, Result<File, String>)>,
    answers: Arc<Mutex<HelperAnswers>>,
}

/// What credential helpers have answered, by their names and servers. A helper may refuse to serve root of a user
/// namespace, so the process inside is given what the one outside was told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HelperAnswers(BTreeMap<String, Option<Credential>>);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    #[serde(deserialize_with = "null_values")]
    auths: BTreeMap<String, Auth>,
    #[serde(deserialize_with = "null_values")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default")]
    creds_store: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(deserialize_with = "null_default")]
    auth: String,
    #[serde(deserialize_with = "null_default")]
    username: String,
    #[serde(deserialize_with = "null_default")]
    password: String,
    #[serde(deserialize_with = "null_default")]
    identitytoken: String,
    #[serde(deserialize_with = "null_default")]
    registrytoken: String,
}

impl std::fmt::Debug for Auth {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

impl Credentials {
    /// No credentials.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Adds a file's content; earlier files take precedence. Errors call it `origin`. Invalid content is a
    /// [problem](Credentials::problems), and an error of every [`Credentials::lookup`] that gets to it. An empty file has
    /// no entries.
    pub(crate) fn add(&mut self, origin: &str, content: &[u8]) {
        let file = parse(content);
        self.files.push((origin.to_owned(), file));
    }

    /// Adds a file that could not be read.
    pub(crate) fn add_unreadable(&mut self, origin: &str, why: String) {
        self.files.push((origin.to_owned(), Err(why)));
    }

    /// The files that cannot be used, and why.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(origin, file)| Some((origin.as_str(), file.as_ref().err()?.as_str())))
    }

    /// What helpers have answered so far.
    pub(super) fn answers(&self) -> HelperAnswers {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks no helper for what it has answered already.
    pub(crate) fn remember(&self, answers: HelperAnswers) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).0.extend(answers.0);
    }

    /// The answer of a helper for a server.
    fn ask(&self, origin: &str, helper: &str, server: &str) -> Result<Option<Credential>, RegistryError> {
        let key = format!("{helper} {server}");
        // Held while the helper runs: it is not asked twice at the same time.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = answers.0.get(&key) {
            return Ok(known.clone());
        }
        let answer = Helper::new(origin, helper)?.get(server)?;
        answers.0.insert(key, answer.clone());
        Ok(answer)
    }

    /// The credential for a repository, from a helper if a file names one. `Ok(None)` = there is none.
    /// A key names a registry or, as Podman writes it, a registry and the beginning of a repository; the longest match
    /// wins.
    pub(crate) fn lookup(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RegistryError> {
        for (origin, file) in &self.files {
            let unusable = |why: &String| RegistryError::Credentials { origin: origin.clone(), why: why.clone() };
            let file = file.as_ref().map_err(unusable)?;
            let server = server_of(registry);
            let helper = file.cred_helpers.get(registry).or_else(|| file.cred_helpers.get(server));
            if let Some(helper) = helper {
                if let Some(found) = self.ask(origin, helper, server)? {
                    return Ok(Some(found));
                }
                continue;
            }
            if let Some(found) = file.inline(origin, registry, repository)? {
                return Ok(Some(found));
            }
            if !file.creds_store.is_empty()
                && let Some(found) = self.ask(origin, &file.creds_store, server)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The content of a credential file; nothing but white space is an empty one. Errors have only the position, because the
/// text there may be a secret.
pub(super) fn parse<T: Default + serde::de::DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    match content.trim_ascii() {
        [] => Ok(T::default()),
        text => serde_json::from_slice(text)
            .map_err(|e| format!("not a credential file (line {}, column {})", e.line(), e.column())),
    }
}

/// The name of a registry for helpers and as a key of `auths`.
pub(super) fn server_of(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { HUB_KEY } else { registry }
}

impl File {
    fn inline(&self, origin: &str, registry: &str, repository: &str) -> Result<Option<Credential>, RegistryError> {
        let full = format!("{registry}/{repository}");
        let matches = |key: &str| -> Option<usize> {
            let plain = key.trim_start_matches("https://").trim_start_matches("http://");
            let plain = plain.trim_end_matches('/');
            let plain = match plain {
                "index.docker.io/v1" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
                other => other.strip_suffix("/v1").or_else(|| other.strip_suffix("/v2")).unwrap_or(other),
            };
            let prefix = full.strip_prefix(plain)?;
            (prefix.is_empty() || prefix.starts_with('/')).then_some(plain.len())
        };
        let mut candidates: Vec<(usize, &String, &Auth)> =
            self.auths.iter().filter_map(|(key, auth)| Some((matches(key)?, key, auth))).collect();
        candidates.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
        for (_, key, auth) in candidates {
            let wrong =
                |why: &str| RegistryError::Credentials { origin: origin.to_owned(), why: format!("{key}: {why}") };
            if let Some(found) = auth.credential().map_err(wrong)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Auth {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Bearer(self.registrytoken.clone())));
        }
        if !self.auth.is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(self.auth.trim().as_bytes())
                .map_err(|_| "\"auth\" is not base64")?;
            let text = String::from_utf8(decoded).map_err(|_| "\"auth\" is not text")?;
            let (user, password) = text.split_once(':').ok_or("\"auth\" has no colon between user and password")?;
            // Docker pads with NUL bytes.
            return Ok(Some(Credential::from_pair(user, password.trim_end_matches('\0'))));
        }
        Ok((!self.username.is_empty()).then(|| Credential::from_pair(&self.username, &self.password)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(json: &str, registry: &str, repository: &str) -> Result<Option<Credential>, RegistryError> {
        let mut credentials = Credentials::none();
        credentials.add("config.json", json.as_bytes());
        credentials.lookup(registry, repository)
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn every_spelling_of_a_registry_matches_o76() {
        let auth = "dXNlcjpwYTpzcw=="; // user:pa:ss
        for key in ["r.example", "https://r.example", "https://r.example/v1/", "r.example/v2/"] {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#);
            assert_eq!(lookup(&json, "r.example", "a/b").expect("lookup"), password("user", "pa:ss"), "{key}");
            assert_eq!(lookup(&json, "r.example.evil", "a/b").expect("lookup"), None);
        }
        let hub = format!(r#"{{"auths":{{"{HUB_KEY}":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(lookup(&hub, "docker.io", "library/debian").expect("lookup"), password("user", "pa:ss"));
        assert_eq!(lookup(r#"{"auths":{"r":{}}}"#, "r", "a").expect("lookup"), None);
        assert_eq!(lookup("{}", "r", "a").expect("lookup"), None);
    }

    #[test]
    fn longest_repository_prefix_wins() {
        let json = r#"{"auths":{"r":{"username":"a","password":"1"},"r/team":{"username":"b","password":"2"},
            "r/team/app":{"identitytoken":"t"},"r/tea":{"username":"x","password":"x"}}}"#;
        assert_eq!(lookup(json, "r", "other").expect("lookup"), password("a", "1"));
        assert_eq!(lookup(json, "r", "team/x").expect("lookup"), password("b", "2"));
        assert_eq!(lookup(json, "r", "team/app").expect("lookup"), Some(Credential::Identity("t".to_owned())));
    }

    #[test]
    fn broken_file_is_named_without_its_secrets() {
        let secret = "c2VjcmV0"; // "secret", no colon
        let message =
            lookup(&format!(r#"{{"auths":{{"r":{{"auth":"{secret}"}}}}}}"#), "r", "a").expect_err("bad").to_string();
        assert!(message.starts_with("config.json: r: ") && !message.contains("secret"), "{message}");
        assert!(lookup("{", "r", "a").is_err());
        let message = lookup(r#"{"credsStore":"../evil"}"#, "r", "a").expect_err("bad").to_string();
        assert!(message.contains("not the name of a credential helper"), "{message}");
        let message = lookup(r#"{"credHelpers":{"r":"kiln-no-such"}}"#, "r", "a").expect_err("bad").to_string();
        assert!(message.contains("docker-credential-kiln-no-such: cannot be started"), "{message}");
    }
}
