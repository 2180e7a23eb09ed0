//! Bytes from files, registries, image configs and commands, made safe for a terminal (S-99).
//!
//! **Holds.** Every function accepts any bytes and returns text without control characters except line feed and tab, so that
//! nothing can move the cursor, change the title, overwrite a line or write to the clipboard. Bidirectional overrides count
//! as control characters.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Removes the error numbers that the standard library adds to messages of the system.
pub(crate) fn plain(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        plain.push_str(rest.strip_prefix(')').unwrap_or(rest));
    }
    plain
}

/// Text for a message: control characters appear as `\x1b`. Line feeds and tabs stay.
pub(crate) fn text(input: &str) -> Cow<'_, str> {
    if !input.chars().any(unsafe_char) {
        return Cow::Borrowed(input);
    }
    let mut out = String::with_capacity(input.len() + 16);
    for c in input.chars() {
        match (unsafe_char(c), c as u32) {
            (false, _) => out.push(c),
            (true, code @ 0..=0xff) => {
                let _ = write!(out, "\\x{code:02x}");
            }
            (true, code) => {
                let _ = write!(out, "\\u{{{code:x}}}");
            }
        }
    }
    Cow::Owned(out)
}

/// One line of a command's output: escape sequences are removed, invalid UTF-8 becomes U+FFFD. Of text overwritten with
/// carriage returns (progress bars) the last version counts.
pub(crate) fn output_line(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|&b| b == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
    let lossy = String::from_utf8_lossy(last);
    let mut out = String::with_capacity(lossy.len());
    let mut chars = lossy.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_escape(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            '\x08' => {
                out.pop();
            }
            '\t' => out.push('\t'),
            c if unsafe_char(c) || c == '\n' => {}
            c => out.push(c),
        }
    }
    out
}

fn unsafe_char(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Bidirectional embeddings, overrides and isolates.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// Skips what follows an ESC: a control sequence, a string that ends with BEL or ST, or one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || c == '\u{9c}' {
                    return;
                }
                if c == '\x1b' && chars.peek() == Some(&'\\') {
                    chars.next();
                    return;
                }
            }
        }
        // Character set selection: an intermediate and a final character.
        Some(' '..='/') => {
            // Consumes the final character too.
            let _ = chars.find(|c| !(' '..='/').contains(c));
        }
        Some(_) => {
            chars.next();
        }
        None => {}
    }
}

/// Skips parameters and intermediates up to the final character.
fn skip_csi(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(&c) = chars.peek() {
        match c {
            ' '..='?' => {
                chars.next();
            }
            '@'..='~' => {
                chars.next();
                return;
            }
            // Not a control sequence: keep what follows.
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_escape_control_characters() {
        // S-99
        for (input, want) in [
            ("plain ünïcode\ttab\nline", "plain ünïcode\ttab\nline"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("a\rb", "a\\x0db"),
            ("\u{9b}31m", "\\x9b31m"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("\0\x7f", "\\x00\\x7f"),
        ] {
            assert_eq!(text(input), want);
        }
    }

    #[test]
    fn command_output_drops_escape_sequences() {
        // R-12, S-99
        for (input, want) in [
            (&b"\x1b[1;32mok\x1b[0m done"[..], "ok done"),
            (b"\x1b]0;owned\x07text", "text"),
            (b"\x1b]52;c;aGk=\x1b\\text", "text"),
            (b"\x1b(Bhi", "hi"),
            (b"\x1bPq#0\x1b\\sixel", "sixel"),
            (b" 10%\r 50%\r100%", "100%"),
            (b"100%\r", "100%"),
            (b"\r\r", ""),
            (b"ab\x08c", "ac"),
            (b"caf\xc3\xa9 \xff.", "caf\u{e9} \u{fffd}."),
            (b"\x1b", ""),
            (b"\x1b[", ""),
            (b"a\x07b\x00c", "abc"),
        ] {
            assert_eq!(output_line(input), want, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn sanitized_text_never_controls_a_terminal(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let safe = |s: &str| s.chars().all(|c| c == '\n' || c == '\t' || !unsafe_char(c));
            prop_assert!(safe(&text(&String::from_utf8_lossy(&input))));
            let line = output_line(&input);
            prop_assert!(safe(&line) && !line.contains('\n'));
        }
    }
}
