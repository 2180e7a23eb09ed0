//! Absolute `http` and `https` URLs in the three parts that routing and redirects need.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An absolute HTTP URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// `https`.
    pub(crate) tls: bool,
    /// `host` or `host:port`.
    pub(crate) authority: String,
    /// Path and query, beginning with a slash.
    pub(crate) target: String,
}

impl Url {
    /// The URL of `target` on a host.
    pub(crate) fn new(tls: bool, authority: &str, target: &str) -> Self {
        Self { tls, authority: authority.to_owned(), target: target.to_owned() }
    }

    /// Parses an absolute URL. `None`: it has another scheme, a user name, or characters that no URL has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match (strip(text, "https://"), strip(text, "http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let printable = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || !printable(rest) {
            return None;
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Some(Self { tls, authority: authority.to_ascii_lowercase(), target })
    }

    /// The URL that a `Location` header of a response from here names (RFC 3986 §5, without dot segments).
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{}://{}{location}", self.scheme(), self.authority));
        }
        if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
            return Self::parse(location);
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let dir = path.rfind('/').map_or("/", |i| &path[..=i]);
        Self::parse(&format!("{}://{}{dir}{location}", self.scheme(), self.authority))
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Same scheme, host and port.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        let default = |url: &Self| if url.tls { ":443" } else { ":80" };
        let spelled = |url: &Self| url.authority.strip_suffix(default(url)).unwrap_or(&url.authority).to_owned();
        self.tls == other.tls && spelled(self) == spelled(other)
    }

    /// For messages: a server may have put a signature into the query, under any name.
    pub(crate) fn without_query(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{}://{}{path}", self.scheme(), self.authority)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.target)
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// `localhost`, `127.0.0.0/8`, `::1`: traffic to it never leaves this host.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|p| p.eq_ignore_ascii_case(prefix)).map(|_| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_is_resolved_against_the_request_s59() {
        let from = Url::parse("https://r.example/v2/a/blobs/x?y=1").expect("url");
        for (location, want) in [
            ("https://cdn.example/x?sig=1", Some("https://cdn.example/x?sig=1")),
            ("/other", Some("https://r.example/other")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("z?q", Some("https://r.example/v2/a/blobs/z?q")),
            ("HTTP://R.example", Some("http://r.example/")),
            ("file:///etc/passwd", None),
            ("gopher://x", None),
            ("https://user:pass@evil/", None),
            ("https://a b/", None),
            ("https:///x", None),
        ] {
            assert_eq!(from.join(location).map(|u| u.to_string()).as_deref(), want, "{location}");
        }
        assert!(from.same_origin(&Url::parse("https://r.example:443/").expect("url")));
        assert!(!from.same_origin(&Url::parse("http://r.example/").expect("url")));
        assert!(!from.same_origin(&Url::parse("https://r.example:8443/").expect("url")));
    }

    #[test]
    fn loopback_addresses_are_recognised_s60() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.evil.com", "10.0.0.1", "[::2]:1", "127.0.0.1.evil.com", "0.0.0.0"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
