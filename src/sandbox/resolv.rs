//! Rewrites `/etc/resolv.conf` for a private network.

use std::net::{IpAddr, Ipv4Addr};

/// `text` without name servers on the host's loopback (stub resolvers), which a private network cannot reach. If no
/// name server is left, `instead` is added. Other lines stay.
pub(super) fn reachable(text: &[u8], instead: Ipv4Addr) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let servers: Vec<&str> = text.lines().filter_map(server).collect();
    let is_stub = |server: &&str| {
        let address = server.split('%').next().unwrap_or(server);
        address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    if !servers.iter().all(is_stub) {
        let lines = text.lines().filter(|line| !server(line).is_some_and(|server| is_stub(&server)));
        return joined(lines);
    }
    let instead = format!("nameserver {instead}");
    let kept = text.lines().filter(|line| server(line).is_none());
    joined(std::iter::once(instead.as_str()).chain(kept))
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next()).flatten()
}

fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = String::new();
    for line in lines {
        out.push_str(line);
        out.push('\n');
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> String {
        String::from_utf8_lossy(&reachable(text.as_bytes(), Ipv4Addr::new(10, 0, 2, 3))).into_owned()
    }

    #[test]
    fn reachable_replaces_loopback_servers() {
        assert_eq!(
            resolved("# stub\nnameserver 127.0.0.53\nsearch example.org\noptions edns0\n"),
            "nameserver 10.0.2.3\n# stub\nsearch example.org\noptions edns0\n"
        );
        assert_eq!(resolved("nameserver ::1\nnameserver 127.0.0.1"), "nameserver 10.0.2.3\n");
        assert_eq!(resolved(""), "nameserver 10.0.2.3\n");
    }

    #[test]
    fn reachable_keeps_other_servers_and_drops_loopback_ones() {
        assert_eq!(resolved("nameserver 192.0.2.1\nnameserver 127.0.0.53\n"), "nameserver 192.0.2.1\n");
        assert_eq!(resolved("nameserver fe80::1%eth0\n"), "nameserver fe80::1%eth0\n");
    }
}
