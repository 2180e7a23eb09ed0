//! Logging in and out: whether a registry takes a password, and the credential file that keeps it (O-76).
//!
//! **Holds.** Entries of other registries, and fields that kiln does not know, stay as they are. A file that names a
//! credential helper for the registry gets no password: the helper does, and the file an empty entry, as Docker writes it.
//! **Not here.** Reading and writing files: contents come in and go out as data.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::transport::{HttpError, Request, Url};

use super::RegistryError;
use super::auth;
use super::client::Client;
use super::credential::Credential;
use super::credentials::{parse, server_of};
use super::error::Refusal;
use super::helper::Helper;

/// A credential file, to be changed.
pub(crate) struct CredentialFile {
    origin: String,
    root: Map<String, Value>,
}

/// Where a login was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The password is in the file, readable by whoever can read it.
    PasswordInFile,
    /// A token that stands for the password is in the file.
    TokenInFile,
    /// By a credential helper.
    ByHelper,
}

impl Client {
    /// Ok: `registry` accepts user name and password. What to store for them: if the registry's token server gives a
    /// refresh token, that instead of the password.
    pub(crate) fn verify_login(&self, registry: &str, user: &str, password: &str) -> Result<Credential, RegistryError> {
        let credential = Credential::Password { user: user.to_owned(), password: password.to_owned() };
        let host = Self::host_of_registry(registry);
        let tls = !self.http.prefers_plain(&host);
        let first = self.verify_at(&Url::new(tls, &host, "/v2/"), registry, &credential);
        // A registry that may be insecure is asked the other way too, as for images.
        let refresh = match first {
            Err(RegistryError::Http(
                HttpError::Tls { .. }
                | HttpError::Network { .. }
                | HttpError::Unreachable { .. }
                | HttpError::Status { status: 400, .. },
            )) if self.http.is_insecure(&host) => {
                match self.verify_at(&Url::new(!tls, &host, "/v2/"), registry, &credential) {
                    Err(RegistryError::Http(error)) if !tls && error.speaks_tls() => Err(error.into()),
                    other => other.or(first),
                }
            }
            other => other,
        };
        Ok(refresh?.map_or(credential, Credential::Identity))
    }

    /// Ok: the refresh token that the token server gave.
    fn verify_at(&self, url: &Url, registry: &str, credential: &Credential) -> Result<Option<String>, RegistryError> {
        let mut response = self.http.send(&Request::get(url.clone()))?;
        let mut refresh = None;
        // A host that the registry redirects to must not say where the password goes (S-58).
        if response.status == 401 && response.url.authority == url.authority {
            let challenges =
                response.header_values("www-authenticate").into_iter().map(str::to_owned).collect::<Vec<_>>();
            // With its body read, the connection serves the next request.
            response.into_reason();
            let (authorization, given) = auth::answer(&self.http, registry, url, &challenges, credential)?;
            refresh = given;
            response = self.http.send(&Request { authorization: Some(authorization), ..Request::get(url.clone()) })?;
        }
        match response.status {
            _ if response.is_success() => Ok(refresh),
            401 | 403 => {
                let (host, status) = (response.url.authority.clone(), response.status);
                let refusal = match status {
                    _ if host != url.authority => Refusal::Elsewhere,
                    401 => Refusal::Credentials,
                    _ => Refusal::Access,
                };
                let reason = format!("{status} {}", response.into_reason()).trim_end().to_owned();
                let (what, registry) = (registry.to_owned(), registry.to_owned());
                Err(RegistryError::Denied { what, registry, host, refusal, reason })
            }
            404 => Err(HttpError::Protocol { url: url.without_query(), why: "there is no registry".to_owned() }.into()),
            _ => Err(response.into_error().into()),
        }
    }
}

impl CredentialFile {
    /// Reads a file's content; errors call it `origin`. No content, or only white space, is an empty file.
    pub(crate) fn read(origin: &str, content: &[u8]) -> Result<Self, RegistryError> {
        let root = parse(content).map_err(|why| RegistryError::Credentials { origin: origin.to_owned(), why })?;
        Ok(Self { origin: origin.to_owned(), root })
    }

    /// The file's content, as Docker indents it.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        use serde::Serialize as _;
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        // Maps with text keys can always be written.
        let _ = Value::Object(self.root).serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
        bytes
    }

    /// Stores the credential of a registry, and the name of its user.
    pub(crate) fn log_in(
        &mut self,
        registry: &str,
        user: &str,
        credential: &Credential,
    ) -> Result<Kept, RegistryError> {
        let server = server_of(registry);
        let entry = |password: &str, token: Option<(&str, &str)>| {
            let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            let fields = [("auth", auth.as_str())].into_iter().chain(token);
            fields.map(|(name, value)| (name.to_owned(), Value::String(value.to_owned()))).collect()
        };
        let (entry, kept) = match (self.helper(registry)?, credential) {
            (Some(helper), credential) => {
                let (user, secret) = credential.pair(user);
                helper.store(server, user, secret)?;
                (Map::new(), Kept::ByHelper)
            }
            (None, Credential::Password { password, .. }) => (entry(password, None), Kept::PasswordInFile),
            (None, Credential::Identity(token)) => (entry("", Some(("identitytoken", token))), Kept::TokenInFile),
            (None, Credential::Bearer(token)) => (entry("", Some(("registrytoken", token))), Kept::TokenInFile),
        };
        let auths = self.root.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Value::Object(auths) = auths {
            auths.insert(server.to_owned(), Value::Object(entry));
        }
        Ok(kept)
    }

    /// Removes what is stored for a registry. `false`: there was nothing.
    pub(crate) fn log_out(&mut self, registry: &str) -> Result<bool, RegistryError> {
        let server = server_of(registry);
        let erased = match self.helper(registry)? {
            Some(helper) => helper.erase(server)?,
            None => false,
        };
        let auths = self.root.get_mut("auths").and_then(Value::as_object_mut);
        let spelled =
            [server.to_owned(), registry.to_owned(), format!("https://{registry}"), format!("http://{registry}")];
        let removed = auths.is_some_and(|auths| {
            let before = auths.len();
            auths.retain(|key, _| !spelled.iter().any(|own| own == key.trim_end_matches('/') || own == key));
            auths.len() < before
        });
        Ok(erased || removed)
    }

    /// The helper that keeps the credentials of a registry.
    fn helper(&self, registry: &str) -> Result<Option<Helper>, RegistryError> {
        let helpers = self.root.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|all| all.get(registry).or_else(|| all.get(server_of(registry))));
        let name = own.or_else(|| self.root.get("credsStore")).and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() { Ok(None) } else { Helper::new(&self.origin, name).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(password: &str) -> Credential {
        Credential::Password { user: "u".to_owned(), password: password.to_owned() }
    }

    fn changed(content: &str, change: impl FnOnce(&mut CredentialFile)) -> Value {
        let mut file = CredentialFile::read("config.json", content.as_bytes()).expect("read");
        change(&mut file);
        serde_json::from_slice(&file.into_bytes()).expect("JSON")
    }

    #[test]
    fn login_keeps_what_it_does_not_know_o76() {
        let before = r#"{"auths":{"other":{"auth":"eDp5","email":"a@b"}},"HttpHeaders":{"X":"1"},"proxies":null}"#;
        let after = changed(before, |file| {
            let kept = file.log_in("r.example:5000", "user", &password("pa:ss")).expect("login");
            assert_eq!(kept, Kept::PasswordInFile);
        });
        let want = serde_json::json!({
            "auths": {"other": {"auth": "eDp5", "email": "a@b"}, "r.example:5000": {"auth": "dXNlcjpwYTpzcw=="}},
            "HttpHeaders": {"X": "1"}, "proxies": null,
        });
        assert_eq!(after, want);
        let hub = changed("", |file| assert!(file.log_in("docker.io", "u", &password("p")).is_ok()));
        assert_eq!(hub["auths"]["https://index.docker.io/v1/"]["auth"], "dTpw");
        let null = changed(r#"{"auths":null}"#, |file| assert!(file.log_in("r", "u", &password("p")).is_ok()));
        assert_eq!(null["auths"]["r"]["auth"], "dTpw");
    }

    #[test]
    fn login_stores_token_in_place_of_password_o76() {
        let after = changed("{}", |file| {
            let kept = file.log_in("r", "user", &Credential::Identity("ref".to_owned())).expect("login");
            assert_eq!(kept, Kept::TokenInFile);
        });
        // As Docker writes it: the user name, and no password.
        assert_eq!(after, serde_json::json!({"auths": {"r": {"auth": "dXNlcjo=", "identitytoken": "ref"}}}));
    }

    #[test]
    fn logout_removes_every_spelling_of_the_registry() {
        let before = r#"{"auths":{"r":{},"https://r":{},"http://r/":{},"r2":{},"r/team":{}},"x":1}"#;
        let after = changed(before, |file| assert!(file.log_out("r").expect("logout")));
        assert_eq!(after, serde_json::json!({"auths": {"r2": {}, "r/team": {}}, "x": 1}));
        changed("{}", |file| assert!(!file.log_out("r").expect("logout")));
        changed("{}", |file| assert!(!file.log_out("docker.io").expect("logout")));
    }

    #[test]
    fn broken_file_is_refused_without_its_text() {
        let message = CredentialFile::read("c.json", b"{ secret").err().expect("refused").to_string();
        assert_eq!(message, "c.json: not a credential file (line 1, column 3)");
    }
}
