//! HTTP URLs with user information.

use crate::base::url::percent_decode;
use crate::transport::basic_authorization;

/// An `http` or `https` URL.
pub(super) struct Address<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    authority: &'a str,
    rest: &'a str,
}

impl<'a> Address<'a> {
    /// `None`: `url` has another scheme.
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

    /// Whether the URL names no host.
    pub(super) fn lacks_host(&self) -> bool {
        self.authority.is_empty() || self.authority.starts_with(':')
    }

    /// The URL without user name and password.
    pub(super) fn without_user(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.rest)
    }

    /// `https://host:port/`
    pub(super) fn origin(&self) -> String {
        format!("{}://{}/", self.scheme, self.authority)
    }

    /// The `Authorization` header for the URL's user name and password.
    pub(super) fn authorization(&self) -> Option<String> {
        let user = self.user?;
        let mut text = percent_decode(user);
        if !user.contains(':') {
            text.push(b':');
        }
        Some(basic_authorization(&text))
    }

    /// The names that a secret may use for the host: with its port, and without.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let bare = self.authority.rsplit_once(':').map(|(host, _)| host).filter(|host| !host.ends_with(':'));
        [self.authority].into_iter().chain(bare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_becomes_a_header() {
        let url = Address::parse("https://me:s%65cret@h:1/a@b?c").unwrap();
        assert_eq!((url.without_user().as_str(), url.origin().as_str()), ("https://h:1/a@b?c", "https://h:1/"));
        assert_eq!(url.authorization().as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert!(Address::parse("ssh://git@h/x").is_none() && Address::parse("git@h:x").is_none());
    }
}
