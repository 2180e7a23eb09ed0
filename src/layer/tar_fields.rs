//! Fields of a tar header.

use super::tar_write::BLOCK;

/// A numeric field: octal text, or base 256 with the top bit set. `None`: not a number, or not one of 64 bits.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let mut n: i128 = if negative { i128::from(first as i8) } else { i128::from(first) };
        for &byte in &field[1..] {
            n = n.checked_mul(256)? + i128::from(byte);
        }
        return i64::try_from(n).ok();
    }
    let mut n: i64 = 0;
    for &byte in text(field).trim_ascii() {
        let digit = matches!(byte, b'0'..=b'7').then(|| i64::from(byte - b'0'))?;
        n = n.checked_mul(8)?.checked_add(digit)?;
    }
    Some(n)
}

/// The sum of all bytes, with blanks for the checksum itself, is `stated`.
pub(super) fn has_checksum(block: &[u8; BLOCK], stated: u64) -> bool {
    let sum = |byte: fn(u8) -> i64| {
        block.iter().enumerate().map(|(i, &b)| byte(if (148..156).contains(&i) { b' ' } else { b })).sum::<i64>()
    };
    // Old writers summed signed bytes.
    sum(i64::from) == stated as i64 || sum(|b| i64::from(b as i8)) == stated as i64
}

/// A field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// The name in the header itself, with a POSIX (or star's shorter) prefix.
pub(super) fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = match (&block[257..263], &block[508..512]) {
        (b"ustar\0", b"tar\0") => text(&block[345..476]),
        (b"ustar\0", _) => text(&block[345..500]),
        _ => b"",
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}
