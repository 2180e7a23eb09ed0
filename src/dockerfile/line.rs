//! Physical and logical lines: continuations, comments, blank lines (P-3…P-7).

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::source::{Span, offset};
use super::word::{Anchor, Word};

/// The maximum length of a physical line in bytes, without its line feed (P-7).
pub(super) const MAX_LINE: usize = (64 << 10) - 1;

/// One physical line: its text without line end, and where the next one starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Physical<'s> {
    pub(super) text: &'s str,
    pub(super) start: usize,
    /// After the line feed.
    pub(super) next: usize,
}

impl Physical<'_> {
    pub(super) fn span(&self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }

    /// The offset of the first character that is not blank, or of the end.
    pub(super) fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    pub(super) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }

    pub(super) fn is_blank(&self) -> bool {
        self.text.trim_start().is_empty()
    }

    pub(super) fn is_too_long(&self) -> bool {
        // The carriage return counts, the line feed does not.
        self.text.len() > MAX_LINE || self.next - self.start > MAX_LINE + 1
    }
}

/// The physical line that starts at `at`.
pub(super) fn physical(text: &str, at: usize) -> Option<Physical<'_>> {
    if at >= text.len() {
        return None;
    }
    let rest = &text[at..];
    let (line, next) = match rest.find('\n') {
        Some(end) => (&rest[..end], at + end + 1),
        None => (rest, text.len()),
    };
    Some(Physical { text: line.trim_end_matches('\r'), start: at, next })
}

/// The text before the continuation mark, or nothing if the line does not continue. The mark is the escape character
/// with only blanks after it and no second escape before it (P-5).
pub(super) fn continued(text: &str, escape: char) -> Option<&str> {
    let body = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!body.ends_with(escape)).then_some(body)
}

/// A logical line with the positions of its parts in the source.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) text: String,
    anchors: Vec<Anchor>,
    /// Where the last piece ended in the source.
    end: usize,
    pub(super) blank_line: Option<Span>,
}

impl Line {
    /// Appends `piece`, which starts at `source`.
    pub(super) fn push(&mut self, piece: &str, source: usize) {
        self.anchors.push(Anchor { text: offset(self.text.len()), source: offset(source) });
        self.text.push_str(piece);
        self.end = source + piece.len();
    }

    /// The position of byte `at` of the text in the source.
    pub(super) fn locate(&self, at: usize) -> u32 {
        if at >= self.text.len() {
            return offset(self.end);
        }
        let at = offset(at);
        let found = self.anchors.partition_point(|a| a.text <= at);
        let anchor = self.anchors.get(found.saturating_sub(1));
        anchor.map_or(0, |a| a.source + (at - a.text))
    }

    /// The span of the bytes `range` of the text in the source.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.locate(range.start);
        match range.end.checked_sub(1) {
            Some(last) if last >= range.start => Span { start, end: self.locate(last) + 1 },
            _ => Span { start, end: start },
        }
    }

    /// The bytes `range` of the text as a word.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        let span = self.span(range.clone());
        let from = offset(range.start);
        let first = self.anchors.partition_point(|a| a.text <= from);
        let text = self.text[range.clone()].to_owned();
        let mut inside = self.anchors[first..].iter().take_while(|a| (a.text as usize) < range.end).peekable();
        if inside.peek().is_none() {
            return Word::new(text, span);
        }
        let head = Anchor { text: 0, source: span.start };
        let rest = inside.map(|a| Anchor { text: a.text - from, source: a.source });
        Word::anchored(text, span, std::iter::once(head).chain(rest).collect())
    }

    /// `range` without blanks at either end.
    pub(super) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        start..start + text.trim().len()
    }
}

/// The problem of a physical line at `span` that is longer than [`MAX_LINE`].
pub(super) fn too_long(span: Span) -> Diagnostic {
    let start = span.start as usize;
    Diagnostic::error(Span::new(start, start + 1), format!("line longer than {MAX_LINE} bytes"))
        .hint("break it with a continuation; only the length of one physical line is limited")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_continues_at_single_escape_p_5() {
        assert_eq!(continued("RUN a \\", '\\'), Some("RUN a "));
        assert_eq!(continued("RUN a \\ \t", '\\'), Some("RUN a "));
        assert_eq!(continued("\\", '\\'), Some(""));
        assert_eq!(continued("RUN a \\\\", '\\'), None);
        assert_eq!(continued("RUN a \\\\\\", '\\'), None);
        assert_eq!(continued("RUN a \\", '`'), None);
        assert_eq!(continued("RUN a `", '`'), Some("RUN a "));
        assert_eq!(continued("RUN a", '\\'), None);
    }

    #[test]
    fn joined_line_locates_bytes_in_source() {
        let mut line = Line::default();
        line.push("RUN a ", 3);
        line.push("  b", 20);
        assert_eq!(line.span(4..9), Span::new(7, 23));
        assert_eq!(line.word(8..9).span, Span::new(22, 23));
        assert_eq!(line.word(4..9).locate(4..5), Span::new(22, 23));
        assert_eq!(line.trim(3..9), 4..9);
    }
}
