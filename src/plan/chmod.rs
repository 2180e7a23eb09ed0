//! `--chmod` values (C-17): octal up to 07777, or symbolic as chmod(1) reads it.

/// What is wrong with `mode`, if anything.
pub(super) fn check(mode: &str) -> Result<(), String> {
    if !mode.is_empty() && mode.bytes().all(|b| b.is_ascii_digit()) {
        return match u32::from_str_radix(mode, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(()),
            _ => Err(format!("invalid mode `{mode}`: want octal digits up to 7777")),
        };
    }
    match mode.split(',').all(is_clause) {
        true => Ok(()),
        false => Err(format!("invalid mode `{mode}`: want octal such as 755, or symbolic such as u=rwX,go=rX")),
    }
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`
fn is_clause(clause: &str) -> bool {
    let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if !rest.starts_with(['-', '+', '=']) {
        return false;
    }
    rest[1..].split(['-', '+', '=']).all(|permissions| {
        matches!(permissions, "u" | "g" | "o") || permissions.bytes().all(|b| b"rwxXst".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic_c17() {
        for good in ["0", "755", "0755", "7777", "00007777", "+x", "u=rwX,go=rX", "g=u", "a+r-w", "=", "u+s,o+t"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "8", "10000", "0o755", "rwx", "u", "z+x", "u+ug", "u=rw,", "755,u+x", "-1", "u+y"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
