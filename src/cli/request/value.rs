//! Values of options: sizes, durations, `key=value` lists, hosts, limits.
//!
//! Every function is pure. Its error says what was expected; the caller adds the name of the option.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::sandbox::Rlimit;

/// Parses `512`, `64k`, `64m`, `1.5g`, also with `b` or `ib` after the letter; powers of 1024, as in Docker.
pub(in crate::cli) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: want a number with k, m, g or t after it, for example 64m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let large = || format!("{text:?} is too large");
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let parts: u128 = fraction.parse().map_err(|_| wrong())?;
    // At most 10^9 × 2^40, which fits, and less than one whole unit.
    let part = (parts << shift) / 10u128.pow(fraction.len() as u32);
    let whole = whole.checked_mul(1 << shift).ok_or_else(large)?;
    whole.checked_add(u64::try_from(part).map_err(|_| large())?).ok_or_else(large)
}

/// Parses `90`, `90s`, `10m`, `1h30m`, `500ms`; never zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: want for example 90s, 10m or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => Some(Duration::from_millis(number)),
            "" | "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        };
        rest = &rest[letters..];
        total = unit.and_then(|unit| total.checked_add(unit)).ok_or_else(wrong)?;
    }
    if total.is_zero() { Err(wrong()) } else { Ok(total) }
}

/// Parses a point in time before `now`: a duration (`24h`), seconds since 1970, or a time as in RFC 3339.
pub(in crate::cli) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(secs) = text.parse::<u32>() {
        return Ok(Timestamp::from_secs(i64::from(secs)));
    }
    if let Ok(past) = duration(text) {
        let secs = i64::try_from(past.as_secs()).ok().and_then(|past| now.secs.checked_sub(past));
        return secs.map(Timestamp::from_secs).ok_or_else(|| format!("{text:?} is too long"));
    }
    text.parse().map_err(|_| format!("{text:?}: want for example 24h or 2030-01-31T00:00:00Z"))
}

/// Parses `a=1,"b=2,3",c`: comma-separated fields, quoted as in CSV, as `(key, value)`; no value without `=`.
pub(super) fn fields(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err(format!("{text:?}: the quote is not closed")),
                }
            }
            if chars.peek().is_some_and(|&c| c != ',') {
                return Err(format!("{text:?}: want a comma after the closing quote"));
            }
        } else {
            while let Some(&c) = chars.peek()
                && c != ','
            {
                field.push(c);
                chars.next();
            }
        }
        match field.split_once('=') {
            Some((key, value)) if !key.is_empty() => out.push((key.to_ascii_lowercase(), Some(value.to_owned()))),
            Some(_) => return Err(format!("{text:?}: a field has no name")),
            None if field.is_empty() => return Err(format!("{text:?}: a field is empty")),
            None => out.push((field, None)),
        }
        if chars.next().is_none() {
            return Ok(out);
        }
    }
}

/// Parses `name:address` or `name=address`; IPv6 addresses may be in brackets (O-20).
pub(super) fn host(text: &str, shares_host: bool) -> Result<(String, IpAddr), String> {
    let wrong = || format!("{text:?}: want HOST:IP");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(wrong());
    }
    if address == "host-gateway" {
        // Commands in the host's network reach the host by loopback.
        return match shares_host {
            true => Ok((name.to_owned(), IpAddr::from([127, 0, 0, 1]))),
            false => Err(format!("{text:?}: an isolated network cannot reach the host; use --network host")),
        };
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| format!("{text:?}: {address:?} is not an IP address"))?;
    Ok((name.to_owned(), address))
}

/// The names of `--ulimit`.
const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Parses `name=soft[:hard]`; -1 or `unlimited` means no limit (O-24).
pub(super) fn ulimit(text: &str) -> Result<Rlimit, String> {
    let wrong = || format!("{text:?}: want NAME=SOFT[:HARD], for example nofile=1024:2048");
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    if !LIMITS.contains(&name) {
        return Err(format!("{name:?} is not a limit: want one of {}", LIMITS.join(", ")));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(format!("{text:?}: the soft limit is higher than the hard one"));
    }
    Ok(Rlimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_use_powers_of_1024() {
        // O-23
        for (text, want) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("2t", Some(2 << 40)),
            ("", None),
            ("m", None),
            ("1.5g", Some(3 << 29)),
            ("0.5", Some(0)),
            ("1.", None),
            (".5g", None),
            ("1.2.3g", None),
            ("16777215.999999999t", Some(18_446_744_073_709_550_516)),
            ("-1", None),
            ("1x", None),
            ("99999999999t", None),
        ] {
            assert_eq!(size(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn duration_sums_units_and_rejects_zero() {
        for (text, want) in [
            ("90", Some(90_000)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0", None),
            ("", None),
            ("s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text).ok().map(|d| d.as_millis()), want, "{text}");
        }
    }

    #[test]
    fn moment_is_a_duration_before_now_or_a_time() {
        let now = Timestamp::from_secs(1_000_000);
        for (text, want) in [
            ("1h", Some(996_400)),
            ("24h", Some(913_600)),
            ("10", Some(10)),
            ("1970-01-02T00:00:00Z", Some(86_400)),
            ("-1h", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(moment(text, now).ok().map(|at| at.secs), want, "{text}");
        }
    }

    #[test]
    fn fields_parse_as_csv() {
        let some = |k: &str, v: &str| (k.to_owned(), Some(v.to_owned()));
        for (text, want) in [
            ("type=oci,dest=a.tar", Ok(vec![some("type", "oci"), some("dest", "a.tar")])),
            ("TYPE=oci,\"dest=a,b.tar\"", Ok(vec![some("type", "oci"), some("dest", "a,b.tar")])),
            ("\"a=say \"\"hi\"\"\"", Ok(vec![some("a", "say \"hi\"")])),
            ("readonly", Ok(vec![("readonly".to_owned(), None)])),
            ("a=", Ok(vec![some("a", "")])),
            ("a=1,", Err(())),
            ("", Err(())),
            ("=x", Err(())),
            ("\"a=1", Err(())),
            ("\"a=1\"b", Err(())),
        ] {
            assert_eq!(fields(text).map_err(|_| ()), want, "{text}");
        }
    }

    #[test]
    fn add_host_needs_name_and_address() {
        // O-20
        for (text, want) in [
            ("db:10.0.0.1", Ok("db 10.0.0.1")),
            ("db=10.0.0.1", Ok("db 10.0.0.1")),
            ("six:[2001:db8::1]", Ok("six 2001:db8::1")),
            ("six:2001:db8::1", Ok("six 2001:db8::1")),
            ("db", Err("want HOST:IP")),
            (":10.0.0.1", Err("want HOST:IP")),
            ("a b:10.0.0.1", Err("want HOST:IP")),
            ("a\n1.1.1.1 b:10.0.0.1", Err("want HOST:IP")),
            ("db:10.0.0", Err("is not an IP address")),
            ("db:host-gateway", Ok("db 127.0.0.1")),
            ("db=host-gateway", Ok("db 127.0.0.1")),
        ] {
            match (host(text, true).map(|(name, ip)| format!("{name} {ip}")), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn host_gateway_needs_host_network() {
        // N-38
        assert!(host("db:host-gateway", false).is_err_and(|why| why.contains("--network host")));
        assert!(host("db:10.0.0.1", false).is_ok());
    }

    #[test]
    fn ulimit_rejects_unknown_names_and_soft_over_hard() {
        // O-24
        let limit = |soft, hard| Ok(Rlimit { name: "nofile".to_owned(), soft, hard });
        for (text, want) in [
            ("nofile=1024:2048", limit(Some(1024), Some(2048))),
            ("nofile=1024", limit(Some(1024), Some(1024))),
            ("nofile=0:-1", limit(Some(0), None)),
            ("nofile=unlimited", limit(None, None)),
            ("nofile=2:1", Err("higher")),
            ("nofile=-1:1", Err("higher")),
            ("nofile", Err("want NAME=SOFT[:HARD]")),
            ("nofile=x", Err("want NAME=SOFT[:HARD]")),
            ("files=1", Err("is not a limit")),
        ] {
            match (ulimit(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }
}
