//! `--publish`: published ports, as in `docker run`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::cli::failure::Failure;
use crate::sandbox::Publish;

/// Most published ports: each uses two sockets.
const MOST: usize = 256;

/// Ok: all published ports.
pub(super) fn all(texts: &[String]) -> Result<Vec<Publish>, Failure> {
    let mut ports = Vec::new();
    for text in texts {
        let wrong = |why: String| Failure::usage(format!("--publish {text:?}: {why}"));
        ports.extend(one(text).map_err(wrong)?);
        if ports.len() > MOST {
            return Err(wrong(format!("at most {MOST} ports can be published")));
        }
    }
    Ok(ports)
}

/// Parses `[[IP:][HOST]:]PORT[/tcp]`; HOST and PORT may be ranges. Without HOST, or with 0, a free port is chosen.
fn one(text: &str) -> Result<Vec<Publish>, String> {
    let form = || "want [[IP:]HOST:]PORT, for example 8080:80".to_owned();
    let (bare, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    if !protocol.eq_ignore_ascii_case("tcp") {
        return Err(format!("only TCP can be published, not {protocol:?}"));
    }
    let (rest, inside) = bare.rsplit_once(':').unwrap_or(("", bare));
    let inside = range(inside).filter(|range| *range.start() > 0).ok_or_else(form)?;
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let address: Option<IpAddr> = match address {
        "" => None,
        address => {
            let bare = address.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(address);
            Some(bare.parse().map_err(|_| format!("{address:?} is not an IP address; {}", form()))?)
        }
    };
    let host = match host {
        "" | "0" => None,
        host => Some(range(host).filter(|range| *range.start() > 0).ok_or_else(form)?),
    };
    if let Some(host) = &host
        && host.len() != inside.len()
    {
        let (outer, inner) = (host.len(), inside.len());
        return Err(format!("{outer} host ports for {inner} container ports: want the same number"));
    }
    let first = host.map(|host| *host.start());
    let port = |(n, inside)| Publish { address, host: first.map(|first| first + n), inside };
    Ok((0..).zip(inside).map(port).collect())
}

/// `N` or `FIRST-LAST`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_parses_ports_like_docker() {
        let read = |text: &str| {
            let ports = all(&[text.to_owned()]).map_err(|f| f.message)?;
            let line = |p: &Publish| {
                let address = p.address.map_or("*".to_owned(), |address| address.to_string());
                format!("{address} {} {}", p.host.map_or("free".to_owned(), |port| port.to_string()), p.inside)
            };
            Ok::<_, String>(ports.iter().map(line).collect::<Vec<_>>().join(", "))
        };
        for (text, want) in [
            ("8080:80", "* 8080 80"),
            ("80", "* free 80"),
            (":80", "* free 80"),
            ("0:80", "* free 80"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1 8080 80"),
            ("8080:80/TCP", "* 8080 80"),
            ("[::1]:8080:80", "::1 8080 80"),
            ("::1:8080:80", "::1 8080 80"),
            (":8080:80", "* 8080 80"),
            ("127.0.0.1::80", "127.0.0.1 free 80"),
            ("8000-8001:80-81", "* 8000 80, * 8001 81"),
            ("80-81", "* free 80, * free 81"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", "want [[IP:]"),
            ("x", "want [[IP:]"),
            ("80:0", "want [[IP:]"),
            ("+80:80", "want [[IP:]"),
            ("99999:1", "want [[IP:]"),
            ("81-80", "want [[IP:]"),
            ("80-", "want [[IP:]"),
            ("1:2:3:4", "\"1:2\" is not an IP address"),
            ("localhost:80:80", "\"localhost\" is not an IP address"),
            ("80:80/udp", "only TCP can be published, not \"udp\""),
            ("8000-8010:80", "11 host ports for 1 container ports"),
            ("1-300", "at most 256 ports"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.starts_with(&format!("--publish {text:?}: ")) && message.contains(want), "{message}");
        }
    }
}
