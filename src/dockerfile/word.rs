//! A word of an instruction with the position of each byte in the source.

use std::fmt;
use std::ops::Range;

use super::source::{Span, offset};

/// From this offset of the text on, the source continues at that offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) text: u32,
    pub(super) source: u32,
}

/// The text of one argument: continuation lines joined, quotes of flags or JSON escapes resolved, variables **not**
/// expanded.
#[derive(Clone, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Its position.
    pub span: Span,
    /// Empty if the text is the source at `span`, byte for byte.
    anchors: Box<[Anchor]>,
}

impl Word {
    /// A word whose text is the source at `span`.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span, anchors: Box::default() }
    }

    pub(super) fn anchored(text: String, span: Span, anchors: Vec<Anchor>) -> Self {
        let linear = anchors.iter().all(|a| a.source.wrapping_sub(a.text) == span.start);
        Self { text, span, anchors: if linear { Box::default() } else { anchors.into_boxed_slice() } }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The span of the bytes `range` of the text in the source.
    pub fn locate(&self, range: Range<usize>) -> Span {
        let start = locate(&self.anchors, self.span, range.start);
        let last = if range.end > range.start { locate(&self.anchors, self.span, range.end - 1) + 1 } else { start };
        Span { start, end: last.clamp(start, self.span.end.max(start)) }
    }

    /// The part `range` of this word.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Word {
        let span = self.locate(range.clone());
        let mut anchors = Vec::new();
        if !self.anchors.is_empty() {
            anchors.push(Anchor { text: 0, source: span.start });
            for a in &self.anchors {
                let at = a.text as usize;
                if at > range.start && at < range.end {
                    anchors.push(Anchor { text: a.text - offset(range.start), source: a.source });
                }
            }
        }
        Word::anchored(self.text[range].to_owned(), span, anchors)
    }

    /// Whether expansion does not change the text: it has no `$`, quote or escape.
    pub fn is_plain(&self) -> bool {
        !self.text.contains(['$', '"', '\'', '\\', '`'])
    }
}

fn locate(anchors: &[Anchor], span: Span, at: usize) -> u32 {
    let at = offset(at);
    let found = anchors.partition_point(|a| a.text <= at);
    let source = match found.checked_sub(1).and_then(|i| anchors.get(i)) {
        Some(a) => a.source.saturating_add(at - a.text),
        None => span.start.saturating_add(at),
    };
    source.clamp(span.start, span.end)
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}..{}", self.text, self.span.start, self.span.end)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Builds a word from pieces with positions.
#[derive(Debug, Default)]
pub(super) struct WordBuilder {
    text: String,
    anchors: Vec<Anchor>,
}

impl WordBuilder {
    /// Appends `piece`, which is at `source`.
    pub(super) fn push(&mut self, piece: &str, source: u32) {
        let at = offset(self.text.len());
        let follows = self.anchors.last().is_some_and(|a| a.source.wrapping_add(at - a.text) == source);
        if !follows {
            self.anchors.push(Anchor { text: at, source });
        }
        self.text.push_str(piece);
    }

    /// Appends one character, which is at `source`.
    pub(super) fn push_char(&mut self, c: char, source: u32) {
        self.push(c.encode_utf8(&mut [0; 4]), source);
    }

    /// The text so far.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The word; `span` covers all its pieces.
    pub(super) fn finish(self, span: Span) -> Word {
        Word::anchored(self.text, span, self.anchors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_word_locates_bytes_in_source() {
        let mut builder = WordBuilder::default();
        builder.push("ab", 10);
        builder.push("cd", 20);
        let word = builder.finish(Span::new(10, 22));
        assert_eq!(word.locate(0..1), Span::new(10, 11));
        assert_eq!(word.locate(2..4), Span::new(20, 22));
        assert_eq!(word.locate(1..3), Span::new(11, 21));
        let tail = word.part(1..4);
        assert_eq!((tail.as_str(), tail.span), ("bcd", Span::new(11, 22)));
        assert_eq!(tail.locate(1..2), Span::new(20, 21));
    }

    #[test]
    fn word_on_one_line_has_no_anchors() {
        let mut builder = WordBuilder::default();
        builder.push("ab", 10);
        builder.push_char('c', 12);
        assert_eq!(builder.finish(Span::new(10, 13)), Word::new("abc", Span::new(10, 13)));
    }
}
