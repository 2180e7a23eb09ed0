//! Which proxy a request goes through (S-63).

use std::net::IpAddr;

use super::url::{Url, host_of, is_loopback};

/// The proxies that the environment names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts that are reached directly: `example.com,.internal:5000,10.0.0.0/8` or `*`.
    pub no_proxy: String,
}

impl Proxies {
    /// The proxy for `url`; `None` = connect directly, as always to loopback.
    pub(super) fn select(&self, url: &Url) -> Option<&str> {
        let proxy = if url.tls { &self.https } else { &self.http };
        let direct = is_loopback(&url.authority) || self.bypass(url);
        proxy.as_deref().filter(|proxy| !proxy.is_empty() && !direct)
    }

    fn bypass(&self, url: &Url) -> bool {
        let host = host_of(&url.authority).to_ascii_lowercase();
        self.no_proxy.split([',', ' ']).map(str::trim).any(|entry| is_host(entry, &host, url))
    }
}

/// Whether an entry of `NO_PROXY` names the host: `*`, a name for itself and its subdomains, an address, a network
/// (`10.0.0.0/8`); a port, if there is one, must be that of the URL.
fn is_host(entry: &str, host: &str, url: &Url) -> bool {
    if entry.is_empty() || entry == "*" {
        return entry == "*";
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let network: Result<(IpAddr, IpAddr, u32), _> =
            network.parse().and_then(|network| host.parse().map(|host| (network, host, bits.parse().unwrap_or(999))));
        return network.is_ok_and(|(network, host, bits)| contains(network, host, bits));
    }
    if let (Ok(one), Ok(other)) = (host_of(entry).parse::<IpAddr>().or_else(|_| entry.parse()), host.parse::<IpAddr>())
    {
        return one == other && port_fits(entry, url);
    }
    let name = host_of(entry).trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
    let below = host.strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below && !name.is_empty() && port_fits(entry, url)
}

/// Whether `host` is in the network of the first `bits` bits of `network`.
fn contains(network: IpAddr, host: IpAddr, bits: u32) -> bool {
    match (network, host) {
        (IpAddr::V4(network), IpAddr::V4(host)) if bits <= 32 => {
            (network.to_bits() ^ host.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(host)) if bits <= 128 => {
            (network.to_bits() ^ host.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Whether the entry has no port, or that of the URL.
fn port_fits(entry: &str, url: &Url) -> bool {
    match port_of(entry) {
        None => true,
        Some(port) => port == port_of(&url.authority).unwrap_or(if url.tls { "443" } else { "80" }),
    }
}

/// The port of `host:port`; an IPv6 address has one only after its bracket.
fn port_of(authority: &str) -> Option<&str> {
    let rest = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let (host, port) = rest.rsplit_once(':')?;
    (!host.contains(':')).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_matches_as_other_tools_read_it_s63() {
        for (list, url, want) in [
            ("example.com", "https://example.com", true),
            ("example.com", "https://r.example.com:5000", true),
            (".example.com", "https://r.example.com", true),
            ("*.example.com", "https://r.example.com", true),
            ("example.com", "https://badexample.com", false),
            ("a, B.c ,", "https://b.c", true),
            ("a b.c", "https://b.c", true),
            ("*", "https://anything", true),
            ("", "https://anything", false),
            (".", "https://anything", false),
            ("example.com:5000", "https://example.com:5000", true),
            ("example.com:5000", "https://example.com", false),
            ("example.com:443", "https://example.com", true),
            ("example.com:80", "http://example.com", true),
            ("10.0.0.0/8", "https://10.1.2.3:5000", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("0.0.0.0/0", "https://11.1.2.3", true),
            ("10.0.0.0/8", "https://ten.example", false),
            ("10.0.0.0/99", "https://10.1.2.3", false),
            ("10.1.2.3", "https://10.1.2.3:1", true),
            ("10.1.2.3:2", "https://10.1.2.3:1", false),
            ("fd00::/8", "https://[fd12::1]:5000", true),
            ("fd00::/8", "https://[fe80::1]", false),
            ("[fd12::1]:5000", "https://[fd12::1]:5000", true),
            ("fd12::1", "https://[fd12::1]", true),
        ] {
            let proxies = Proxies { no_proxy: list.to_owned(), ..Proxies::default() };
            assert_eq!(proxies.bypass(&Url::parse(url).expect("URL")), want, "{list} {url}");
        }
    }
}
