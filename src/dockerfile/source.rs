//! The text of one Dockerfile and positions in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A half-open range of bytes in one [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: offset(start), end: offset(end.max(start)) }
    }

    /// The smallest span that covers both.
    pub fn to(self, other: Span) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The span as a range of `usize`.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether no byte is covered.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The empty span at the start of this one.
    pub fn head(self) -> Self {
        Self { start: self.start, end: self.start }
    }
}

/// Offsets past 4 GiB saturate; [`super::parse()`] refuses such a text before any span is used.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A value and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spanned<T> {
    /// The value.
    pub node: T,
    /// Its position.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `node`, written at `span`.
    pub fn new(node: T, span: Span) -> Self {
        Self { node, span }
    }
}

/// A line and a column, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The text of one Dockerfile (or of one `ONBUILD` trigger) under the name that messages show. Cloning is cheap.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    name: String,
    text: String,
    lines: Vec<usize>,
    invalid: Vec<Span>,
}

impl Source {
    /// From the bytes of the file. A byte-order mark is dropped (P-1). Bytes that are not UTF-8 become U+FFFD and are
    /// listed in [`Source::invalid`], because they are allowed only in some places.
    pub fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut text = String::with_capacity(bytes.len());
        let mut invalid = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                let start = text.len();
                text.push(char::REPLACEMENT_CHARACTER);
                invalid.push(Span::new(start, text.len()));
            }
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self(Arc::new(Inner { name: name.into(), text, lines, invalid }))
    }

    /// The name that messages show, usually the path as it was given.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The text that spans index.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The replaced bytes, in order.
    pub fn invalid(&self) -> &[Span] {
        &self.0.invalid
    }

    /// The text of `span`; empty if the span is not of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.0.text.get(span.range()).unwrap_or("")
    }

    /// Line and column of a byte offset.
    pub fn position(&self, at: u32) -> Position {
        let mut at = (at as usize).min(self.0.text.len());
        while !self.0.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.0.lines.partition_point(|start| *start <= at);
        let start = self.0.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        Position { line, column: self.0.text[start..at].chars().count() + 1 }
    }

    /// How many lines there are; a final newline does not start another.
    pub fn line_count(&self) -> usize {
        let all = self.0.lines.len();
        if self.0.text.is_empty() || self.0.text.ends_with('\n') { all - 1 } else { all }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.0.name, self.0.text.len())
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.name == other.0.name && self.0.text == other.0.text)
    }
}

impl Eq for Source {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_characters() {
        let source = Source::new("Dockerfile", "a\nüx\n");
        assert_eq!(source.position(4), Position { line: 2, column: 2 });
        assert_eq!(source.position(99), Position { line: 3, column: 1 });
        assert_eq!(source.line_count(), 2);
    }

    #[test]
    fn source_drops_byte_order_mark_p_1() {
        let source = Source::new("Dockerfile", b"\xef\xbb\xbf# syntax=x\n");
        assert!(source.text().starts_with('#'));
        assert_eq!(Source::new("x", "").line_count(), 0);
    }

    #[test]
    fn source_lists_bytes_that_are_not_utf_8() {
        let source = Source::new("Dockerfile", b"ab\xff\xfec");
        assert_eq!(source.invalid().len(), 2);
        assert_eq!(source.invalid()[0], Span::new(2, 5));
        assert_eq!(source.text(), "ab\u{fffd}\u{fffd}c");
    }
}
