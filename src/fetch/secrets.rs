//! Credentials from a build's secrets.
//!
//! **Holds.** A credential is sent only to the host it is for, and is in no command line, message or file of the store
//! (S-114). The secrets are named as in BuildKit (C-23, C-25):
//!
//! | secret | sent as `Authorization` |
//! | --- | --- |
//! | `HTTP_AUTH_HEADER_<host>` | the secret itself, to files on that host |
//! | `HTTP_AUTH_TOKEN_<host>` | `Bearer <secret>` |
//! | `GIT_AUTH_HEADER.<host>`, `GIT_AUTH_HEADER` | the secret itself, to the repository's host |
//! | `GIT_AUTH_TOKEN.<host>`, `GIT_AUTH_TOKEN` | `Basic` with the user `x-access-token` |

use std::collections::BTreeMap;
use std::fmt;

use crate::transport::basic_authorization;

use super::address::Address;
use super::error::FetchError;

static NONE: BTreeMap<String, Vec<u8>> = BTreeMap::new();

/// A build's secrets by id; `{:?}` shows only the ids.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'a>(pub &'a BTreeMap<String, Vec<u8>>);

impl Default for Secrets<'_> {
    fn default() -> Self {
        Secrets(&NONE)
    }
}

impl fmt::Debug for Secrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets<'_> {
    /// The `Authorization` header for a file at `url`.
    pub(super) fn for_http(&self, url: &Address<'_>) -> Result<Option<String>, FetchError> {
        for host in url.hosts() {
            if let Some(header) = self.text(&format!("HTTP_AUTH_HEADER_{host}"))? {
                return Ok(Some(header.to_owned()));
            }
            if let Some(token) = self.text(&format!("HTTP_AUTH_TOKEN_{host}"))? {
                return Ok(Some(format!("Bearer {token}")));
            }
        }
        Ok(None)
    }

    /// The `Authorization` header for the repository at `url`.
    pub(super) fn for_git(&self, url: &Address<'_>) -> Result<Option<String>, FetchError> {
        let suffixes = url.hosts().map(|host| format!(".{host}")).chain([String::new()]);
        for suffix in suffixes {
            if let Some(header) = self.text(&format!("GIT_AUTH_HEADER{suffix}"))? {
                return Ok(Some(header.to_owned()));
            }
            if let Some(token) = self.text(&format!("GIT_AUTH_TOKEN{suffix}"))? {
                return Ok(Some(basic_authorization(format!("x-access-token:{token}").as_bytes())));
            }
        }
        Ok(None)
    }

    /// A secret without the line feed at the end of its file.
    fn text(&self, id: &str) -> Result<Option<&str>, FetchError> {
        let Some(bytes) = self.0.get(id) else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map(str::trim_ascii).unwrap_or_default();
        match text.is_empty() || text.bytes().any(|b| b.is_ascii_control()) {
            true => Err(FetchError::Secret { id: id.to_owned() }),
            false => Ok(Some(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_sent_to_its_host_only_c23_c25() {
        let secrets: BTreeMap<String, Vec<u8>> = [
            ("HTTP_AUTH_TOKEN_h", "t\n"),
            ("HTTP_AUTH_HEADER_h:8080", "Basic x"),
            ("GIT_AUTH_TOKEN", "all"),
            ("GIT_AUTH_HEADER.h", "Bearer git"),
            ("HTTP_AUTH_TOKEN_bad", "two\nlines"),
        ]
        .map(|(id, value)| (id.to_owned(), value.as_bytes().to_vec()))
        .into();
        let secrets = Secrets(&secrets);
        let http = |url| secrets.for_http(&Address::parse(url).unwrap());
        let git = |url| secrets.for_git(&Address::parse(url).unwrap()).unwrap();
        assert_eq!(http("https://h/x").unwrap().as_deref(), Some("Bearer t"));
        assert_eq!(http("https://u:p@h:8080/x").unwrap().as_deref(), Some("Basic x"));
        assert_eq!(http("https://h:1/x").unwrap().as_deref(), Some("Bearer t"));
        assert_eq!(http("https://sub.h/@h").unwrap(), None);
        assert!(http("https://bad/").unwrap_err().to_string().contains("HTTP_AUTH_TOKEN_bad"));
        assert_eq!(git("https://h/r.git").as_deref(), Some("Bearer git"));
        assert_eq!(git("https://other/r.git").as_deref(), Some("Basic eC1hY2Nlc3MtdG9rZW46YWxs"));
        assert!(!format!("{secrets:?}").contains("all"));
    }
}
