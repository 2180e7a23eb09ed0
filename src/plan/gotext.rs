//! Formats values as Go does, because history text must equal BuildKit's, which uses `%q`, `%v` and `%+v`.

use std::fmt::Write as _;

use crate::oci::config::Healthcheck;

/// `%q` of a list of strings: `["echo" "a\tb"]`.
pub(super) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a list of strings: `[80/tcp 443/tcp]`.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// `%q` of a string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A duration in nanoseconds: `1m30s`, `500ms`, `0s`.
pub(super) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    if n < 1_000 {
        return format!("{sign}{n}ns");
    }
    for (limit, unit, name) in [(1_000_000, 1_000, "µs"), (1_000_000_000, 1_000_000, "ms")] {
        if n < limit {
            return format!("{sign}{}{name}", fraction(n, unit));
        }
    }
    let (secs, rest) = (n / 1_000_000_000, n % 1_000_000_000);
    let (hours, minutes) = (secs / 3600, secs / 60 % 60);
    let seconds = fraction((secs % 60) * 1_000_000_000 + rest, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `n / unit` in decimal, without trailing zeros. `unit` is a power of ten.
fn fraction(n: u64, unit: u64) -> String {
    let (whole, rest) = (n / unit, n % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

/// `%+v` of a health check.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_escapes_like_go() {
        // I-11
        assert_eq!(quoted("a\"b\\\t\u{1}\u{7f}é\u{a0}"), r#""a\"b\\\t\x01\x7fé\u00a0""#);
        assert_eq!(quoted_list(&["/bin/sh".to_owned(), "-c".to_owned()]), r#"["/bin/sh" "-c"]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn duration_formats_like_go() {
        // I-10
        const S: i64 = 1_000_000_000;
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (30 * S, "30s"),
            (90 * S, "1m30s"),
            (3600 * S, "1h0m0s"),
            (3661 * S + S / 2, "1h1m1.5s"),
            (-S, "-1s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
