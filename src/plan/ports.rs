//! Parses the words of EXPOSE (I-4): `[[ip:]host:]port[-port][/proto]`.

use std::net::IpAddr;

/// The ports that one word exposes, such as `80/tcp`. The host side of a mapping is checked and dropped.
pub(super) fn parse(word: &str) -> Result<Vec<String>, String> {
    let mut parts = word.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let ip = parts.next().unwrap_or_default();
    let (port, proto) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("no port in `{word}`"));
    }
    let proto = match proto.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("unknown protocol `{proto}`: want tcp, udp or sctp")),
    };
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address `{ip}`"));
    }
    let (first, last) = range(port)?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host)?;
        // A single container port may map to any port of a range on the host.
        if last != first && host_last - host_first != last - first {
            return Err(format!("the ranges `{host}` and `{port}` differ in length"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{proto}")).collect())
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
        true => part.parse::<u16>().map_err(|_| format!("invalid port `{text}`: want a number up to 65535")),
        false => Err(format!("invalid port `{text}`: want a number or a range such as 8000-8010")),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    match first <= last {
        true => Ok((first, last)),
        false => Err(format!("invalid port range `{text}`: it ends before it starts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_ports_ranges_and_mappings() {
        // I-4
        for (word, want) in [
            ("80", vec!["80/tcp"]),
            ("80/", vec!["80/tcp"]),
            ("80/UDP", vec!["80/udp"]),
            ("8000-8002/sctp", vec!["8000/sctp", "8001/sctp", "8002/sctp"]),
            ("127.0.0.1:8080:80", vec!["80/tcp"]),
            ("[::1]:8080:80", vec!["80/tcp"]),
            ("::1:8080:80", vec!["80/tcp"]),
            ("8000-9000:80", vec!["80/tcp"]),
            ("0", vec!["0/tcp"]),
        ] {
            assert_eq!(parse(word), Ok(want.iter().map(|p| (*p).to_owned()).collect()), "{word}");
        }
        let bad =
            ["", "/tcp", "80/icmp", "65536", "9-8", "a", "80-", "-", "80:", "1-2-3", "x:1:80", "8000-8001:80-82", "+1"];
        for bad in bad {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
