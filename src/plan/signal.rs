//! Checks the value of STOPSIGNAL (I-9).

/// Linux signal names, without `SIG`.
const NAMES: [&str; 37] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

/// Whether container runtimes accept `text`: a number other than 0, or a name in any case, with or without `SIG`,
/// `RTMIN+1`…`RTMIN+15` and `RTMAX-14`…`RTMAX-1` included.
pub(super) fn is_valid(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|n| n != 0);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, most: u32| {
        let digits = name.strip_prefix(prefix).filter(|d| !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|d| d.parse::<u32>().ok()).is_some_and(|n| (1..=most).contains(&n))
    };
    NAMES.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

/// All known names, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_valid_accepts_signal_names_and_numbers() {
        // I-9
        for good in ["15", "64", "SIGTERM", "term", "SIGRTMIN+3", "rtmax-14", "SIGKILL"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "0", "-9", "SIG", "SIGFOO", "RTMIN+16", "RTMIN+03", "RTMAX-0", "TERM "] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
