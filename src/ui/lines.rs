//! A command's output as lines.
//!
//! **Holds.** Takes bytes in pieces of any size and returns safe lines, in order. Memory is bounded: a line longer than
//! `MAX_LINE` is cut, and of text overwritten with carriage returns only the last version is kept (R-12).

use super::sanitize;

/// Longer lines are cut into several.
const MAX_LINE: usize = 16 << 10;

/// Cuts bytes into safe lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes; `emit` gets every completed line.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.append(&bytes[..end], &mut emit);
            self.flush(&mut emit, true);
            bytes = &bytes[end + 1..];
        }
        self.append(bytes, &mut emit);
    }

    /// Ends the output; `emit` gets an unfinished last line, if there is one.
    pub(crate) fn finish(&mut self, mut emit: impl FnMut(String)) {
        self.flush(&mut emit, false);
    }

    fn flush(&mut self, emit: &mut impl FnMut(String), ended: bool) {
        if ended || !self.partial.is_empty() {
            emit(sanitize::output_line(&self.partial));
            self.partial.clear();
        }
    }

    fn append(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(String)) {
        while self.partial.len() + bytes.len() > MAX_LINE {
            let room = MAX_LINE - self.partial.len();
            self.partial.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            match self.partial.iter().rposition(|&b| b == b'\r') {
                // A terminal does not show overwritten text either.
                Some(at) if at > 0 => {
                    self.partial.drain(..at);
                }
                _ => {
                    let rest = self.partial.split_off(boundary(&self.partial));
                    self.flush(emit, true);
                    self.partial = rest;
                }
            }
        }
        self.partial.extend_from_slice(bytes);
    }
}

/// The last position in `bytes` that does not cut a UTF-8 sequence.
fn boundary(bytes: &[u8]) -> usize {
    let start = (bytes.len().saturating_sub(4)..bytes.len()).rev().find(|&i| bytes[i] & 0xc0 != 0x80);
    match start {
        Some(at) if at > 0 && bytes[at] >= 0xc0 => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| out.push(line));
        }
        lines.finish(|line| out.push(line));
        out
    }

    #[test]
    fn lines_join_bytes_from_any_pieces() {
        // R-12
        assert_eq!(lines(&[b"a\nb", b"c\n", b"", b"d"]), ["a", "bc", "d"]);
        assert_eq!(lines(&[b"\n\n"]), ["", ""]);
        assert_eq!(lines(&[b"caf\xc3", b"\xa9\n"]), ["caf\u{e9}"]);
        assert_eq!(lines(&[b"dos\r", b"\n"]), ["dos"]);
        assert_eq!(lines(&[b"1%\r", b"2%\r", b"done\n"]), ["done"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn long_line_is_cut_between_characters() {
        let long = "\u{e9}".repeat(MAX_LINE);
        let out = lines(&[b"x", long.as_bytes(), b"\nend\n"]);
        assert_eq!(out.concat(), format!("x{long}end"));
        assert!(out.iter().all(|line| line.len() <= MAX_LINE));
    }

    #[test]
    fn endless_progress_bar_uses_bounded_memory() {
        let mut lines = Lines::default();
        for i in 0..100_000 {
            lines.feed(format!("{i}\r").as_bytes(), |_| panic!("no line has ended"));
            assert!(lines.partial.len() <= MAX_LINE);
        }
        let mut last = String::new();
        lines.feed(b"\n", |line| last = line);
        assert_eq!(last, "99999");
    }

    proptest! {
        #[test]
        fn lines_ignore_piece_boundaries(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300usize) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(lines(&[&bytes]), lines(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
