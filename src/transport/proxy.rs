//! Which proxy a request goes through (S-63).

use super::url::{Url, host_of, is_loopback};

/// The proxies that the environment names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts that are reached directly: `example.com,.internal,10.0.0.1` or `*`.
    pub no_proxy: String,
}

impl Proxies {
    /// The proxy for `url`; `None` = connect directly, as always to loopback.
    pub(super) fn select(&self, url: &Url) -> Option<&str> {
        let proxy = if url.tls { &self.https } else { &self.http };
        let direct = is_loopback(&url.authority) || bypasses(&self.no_proxy, host_of(&url.authority));
        proxy.as_deref().filter(|proxy| !proxy.is_empty() && !direct)
    }
}

/// The conventional meaning of `NO_PROXY`: a name matches itself and its subdomains.
fn bypasses(no_proxy: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let name = entry.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        entry == "*" || host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_matches_names_and_subdomains_s63() {
        for (list, host, want) in [
            ("example.com", "example.com", true),
            ("example.com", "r.example.com", true),
            (".example.com", "r.example.com", true),
            ("*.example.com", "r.example.com", true),
            ("example.com", "badexample.com", false),
            ("a, B.c ,", "b.c", true),
            ("*", "anything", true),
            ("", "anything", false),
        ] {
            assert_eq!(bypasses(list, host), want, "{list} {host}");
        }
    }
}
