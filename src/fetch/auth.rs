//! Who asks: what a build's secrets and URLs say of it.
//!
//! **Holds.** A credential is sent to the host it is for and to no other, and is in no command line, message or file of
//! the store (S-114). As BuildKit has it (C-23, C-25):
//!
//! | secret | sent as `Authorization` |
//! | --- | --- |
//! | `HTTP_AUTH_HEADER_<host>` | the secret itself, to files on that host |
//! | `HTTP_AUTH_TOKEN_<host>` | `Bearer <secret>` |
//! | `GIT_AUTH_HEADER.<host>`, `GIT_AUTH_HEADER` | the secret itself, to the repository's host |
//! | `GIT_AUTH_TOKEN.<host>`, `GIT_AUTH_TOKEN` | `Basic` with the user `x-access-token` |

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;

use super::FetchError;

static NONE: BTreeMap<String, Vec<u8>> = BTreeMap::new();

/// A build's secrets by id; not shown by `{:?}`.
#[derive(Clone, Copy)]
pub struct Secrets<'a>(pub &'a BTreeMap<String, Vec<u8>>);

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
    /// For a file on the host of `url`.
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

    /// For a repository on the host of `url`.
    pub(super) fn for_git(&self, url: &Address<'_>) -> Result<Option<String>, FetchError> {
        let suffixes = url.hosts().map(|host| format!(".{host}")).chain([String::new()]);
        for suffix in suffixes {
            if let Some(header) = self.text(&format!("GIT_AUTH_HEADER{suffix}"))? {
                return Ok(Some(header.to_owned()));
            }
            if let Some(token) = self.text(&format!("GIT_AUTH_TOKEN{suffix}"))? {
                return Ok(Some(basic(format!("x-access-token:{token}").as_bytes())));
            }
        }
        Ok(None)
    }

    /// The secret without the line feed that files end with.
    fn text(&self, id: &str) -> Result<Option<&str>, FetchError> {
        let Some(bytes) = self.0.get(id) else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map(str::trim_ascii).unwrap_or_default();
        match text.is_empty() || text.bytes().any(|b| b.is_ascii_control()) {
            true => Err(FetchError::Secret { id: id.to_owned() }),
            false => Ok(Some(text)),
        }
    }
}

/// An `http` or `https` URL in the parts that matter to credentials.
pub(super) struct Address<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    authority: &'a str,
    rest: &'a str,
}

impl<'a> Address<'a> {
    /// `None`: it is of another scheme.
    pub(super) fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
            return None;
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, authority),
        };
        Some(Self { scheme, user, authority, rest })
    }

    /// It names no host.
    pub(super) fn is_nowhere(&self) -> bool {
        self.authority.is_empty() || self.authority.starts_with(':')
    }

    /// The URL without user name and password.
    pub(super) fn plain(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.rest)
    }

    /// `https://host:port/`
    pub(super) fn origin(&self) -> String {
        format!("{}://{}/", self.scheme, self.authority)
    }

    /// The header that says user name and password.
    pub(super) fn user(&self) -> Option<String> {
        let user = self.user?;
        let mut text = super::http::decode(user);
        if !user.contains(':') {
            text.push(b':');
        }
        Some(basic(&text))
    }

    /// The host as secrets may name it: with its port, and without.
    fn hosts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let bare = self.authority.rsplit_once(':').map(|(host, _)| host).filter(|host| !host.ends_with(':'));
        [self.authority].into_iter().chain(bare)
    }
}

fn basic(text: &[u8]) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_the_host_they_name_c23_c25() {
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

    #[test]
    fn urls_lose_their_passwords() {
        let url = Address::parse("https://me:s%65cret@h:1/a@b?c").unwrap();
        assert_eq!((url.plain().as_str(), url.origin().as_str()), ("https://h:1/a@b?c", "https://h:1/"));
        assert_eq!(url.user().as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert!(Address::parse("ssh://git@h/x").is_none() && Address::parse("git@h:x").is_none());
    }
}
