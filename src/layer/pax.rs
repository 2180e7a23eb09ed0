//! PAX extended headers, split by length, not by line: values may contain anything (S-41).

use std::collections::BTreeMap;

use crate::base::time::Timestamp;

/// The records of one extended header.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Parses a header body. GNU sparse 0.0 repeats `GNU.sparse.offset` and `GNU.sparse.numbytes`; they are gathered in
/// order under `GNU.sparse.map`, as format 0.1 writes them.
pub(super) fn parse(mut body: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::new();
    let mut sparse: Vec<u8> = Vec::new();
    while !body.is_empty() {
        // Some writers pad the body with zeros.
        if body.iter().all(|&b| b == 0) {
            break;
        }
        let space = body.iter().take(21).position(|&b| b == b' ').ok_or("extended header without a length")?;
        let len = decimal(&body[..space]).and_then(|n| usize::try_from(n).ok()).ok_or("extended header length")?;
        if len <= space + 1 || len > body.len() {
            return Err("extended header length out of range");
        }
        let (record, rest) = body.split_at(len);
        body = rest;
        let record = record[space + 1..].strip_suffix(b"\n").ok_or("extended header record without a line end")?;
        let equals = record.iter().position(|&b| b == b'=').ok_or("extended header record without =")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"" => return Err("extended header record without a key"),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                if !sparse.is_empty() {
                    sparse.push(b',');
                }
                sparse.extend_from_slice(value);
            }
            _ => {
                records.insert(key.to_vec(), value.to_vec());
            }
        }
    }
    if !sparse.is_empty() {
        records.insert(b"GNU.sparse.map".to_vec(), sparse);
    }
    Ok(records)
}

/// An unsigned decimal number, digits only.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// A time as PAX writes it: `[-]seconds[.fraction]`. Seconds beyond the representable are clamped (S-43).
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&b| b == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let secs = decimal(whole).and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
    let mut nanos = 0u32;
    for i in 0..9 {
        nanos = nanos * 10 + fraction.get(i).map_or(0, |&b| u32::from(b - b'0'));
    }
    Some(match (negative, nanos) {
        (false, nanos) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos: 0 },
        // Nanoseconds count forward: -1.25 is two seconds back and 0.75 on.
        (true, nanos) => Timestamp { secs: (-secs).saturating_sub(1), nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_values_may_contain_line_ends() {
        let records = parse(b"24 SCHILY.xattr.u=a\nb=c\n12 path=abc\n").unwrap_or_default();
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!(records[&b"SCHILY.xattr.u"[..]], b"a\nb=c");
        assert_eq!(records[&b"path"[..]], b"abc");
    }

    #[test]
    fn invalid_pax_headers_are_rejected() {
        for bad in [
            &b"x"[..],
            b"5 a=b\n",
            b"7 a=b\n",
            b"0 a=b\n",
            b"3 a\n",
            b"99999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"6 ab=\n\n",
            b"5 =b\n",
            b"-6 a=b\n",
            b" 6 a=b\n",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(parse(b"6 a=b\n\0\0\0").is_ok());
        assert!(parse(b"").is_ok());
    }

    #[test]
    fn pax_times_have_sign_and_fraction() {
        // S-43
        for (text, secs, nanos) in [
            ("0", 0, 0),
            ("1700000000.5", 1_700_000_000, 500_000_000),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("5.1234567899", 5, 123_456_789),
            ("99999999999999999999999", i64::MAX, 0),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Timestamp { secs, nanos }), "{text}");
        }
        for bad in ["", "-", ".5", "1e9", "1.2.3", "--1", "+1"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }
}
