//! Heredocs: files and scripts inside the Dockerfile (P-16…P-19).

use std::borrow::Cow;
use std::ops::Range;

use super::lexer::{Lexer, Mode, Piece};
use super::line::{Line, physical};
use super::source::Span;
use super::word::{Word, WordBuilder};

/// `<<NAME` and the lines up to `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; the file's name in `COPY` and `ADD`.
    pub name: String,
    /// Where `<<NAME` was written.
    pub span: Span,
    /// A file descriptor before `<<`; only the shell of a `RUN` uses it.
    pub fd: Option<u32>,
    /// `<<-`: leading tabs are not part of the body.
    pub chomp: bool,
    /// The delimiter has no quotes, so `COPY` and `ADD` expand the body. The shell expands the body of a `RUN`.
    pub expand: bool,
    /// The lines as written, line ends as `\n`, tabs still there.
    pub raw: Word,
}

impl Heredoc {
    /// The body: the lines, without leading tabs after `<<-`.
    pub fn body(&self) -> Cow<'_, Word> {
        if !self.chomp || !self.raw.text.contains('\t') {
            return Cow::Borrowed(&self.raw);
        }
        let mut out = WordBuilder::default();
        let mut at = 0;
        for line in self.raw.text.split_inclusive('\n') {
            let tabs = line.len() - line.trim_start_matches('\t').len();
            let range = at + tabs..at + line.len();
            if !range.is_empty() {
                out.push(&line[tabs..], self.raw.locate(range.start..range.start + 1).start);
            }
            at += line.len();
        }
        Cow::Owned(out.finish(self.raw.span))
    }
}

/// The start of a heredoc, before its body is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) name: String,
    pub(super) fd: Option<u32>,
    pub(super) chomp: bool,
    pub(super) expand: bool,
    pub(super) span: Span,
}

/// The heredocs that a line opens, in order. The line is read with `\` as escape, even if `# escape` differs. A line
/// with an unclosed quote or `${…}` opens none.
pub(super) fn openings(line: &Line, range: Range<usize>) -> Vec<Opening> {
    if !line.text[range.clone()].contains("<<") {
        return Vec::new();
    }
    let mode =
        Mode { keep_quotes: true, keep_escapes: true, keep_unset: true, split: true, heredocs: true, ..Mode::WORD };
    let Some(words) = lex(&line.text[range.clone()], mode) else { return Vec::new() };
    words
        .into_iter()
        .filter_map(|(word, at)| {
            let opening = parse_word(&word)?;
            let text = &line.text[range.start + at.start..range.start + at.end];
            let end = range.start + at.start + text.trim_end().len();
            Some(Opening { span: line.span(range.start + at.start..end), ..opening })
        })
        .collect()
}

/// Reads one word as `N<<-NAME`; the span of the result is empty.
pub(super) fn parse_word(word: &str) -> Option<Opening> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = word[digits..].strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let plain = Mode { keep_unset: true, split: true, ..Mode::WORD };
    let name = single(lex(rest, plain)?)?;
    let quoted = single(lex(rest, Mode { keep_quotes: true, ..plain })?)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(&name) == quotes(&quoted);
    Some(Opening { expand, name, fd: word[..digits].parse().ok(), chomp, span: Span::default() })
}

fn lex(text: &str, mode: Mode) -> Option<Vec<Piece>> {
    Lexer::new(text, '\\', mode, &|_| None).run().ok().map(|(_, words)| words)
}

fn single(words: Vec<Piece>) -> Option<String> {
    match <[_; 1]>::try_from(words) {
        Ok([(word, _)]) => Some(word),
        Err(_) => None,
    }
}

/// Reads the body that starts at `at`. Ok: the heredoc and the offset after its terminator. Err: the end of the file
/// came first.
pub(super) fn read_body(text: &str, mut at: usize, opening: Opening) -> Result<(Heredoc, usize), Opening> {
    let start = at;
    let mut body = WordBuilder::default();
    // Lines are added as one piece as long as nothing is dropped from them.
    let mut piece = at;
    while let Some(line) = physical(text, at) {
        let shown = if opening.chomp { line.text.trim_start_matches('\t') } else { line.text };
        if shown == opening.name {
            body.push(&text[piece..line.start], super::source::offset(piece));
            let Opening { name, fd, chomp, expand, span } = opening;
            let raw = body.finish(Span::new(start, line.start));
            return Ok((Heredoc { name, span, fd, chomp, expand, raw }, line.next));
        }
        if text[line.start..line.next].ends_with("\r\n") {
            body.push(&text[piece..line.next - 2], super::source::offset(piece));
            piece = line.next - 1;
        }
        at = line.next;
    }
    Err(opening)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(word: &str) -> Option<(String, bool, bool, Option<u32>)> {
        parse_word(word).map(|o| (o.name, o.expand, o.chomp, o.fd))
    }

    #[test]
    fn parse_word_reads_heredoc_openings_p_16() {
        let plain = |name: &str| Some((name.to_owned(), true, false, None));
        assert_eq!(opening("<<EOF"), plain("EOF"));
        assert_eq!(opening("<<-EOF"), Some(("EOF".into(), true, true, None)));
        assert_eq!(opening("3<<EOF"), Some(("EOF".into(), true, false, Some(3))));
        assert_eq!(opening("<<'EOF'"), Some(("EOF".into(), false, false, None)));
        assert_eq!(opening("<<\"a b\""), Some(("a b".into(), false, false, None)));
        assert_eq!(opening("<<eo'f'"), Some(("eof".into(), false, false, None)));
        assert_eq!(opening("<<eo\\'f"), plain("eo'f"));
        assert_eq!(opening("<<$EOF"), plain("$EOF"));
        assert_eq!(opening("<<  EOF"), plain("EOF"));
        for other in ["<<", "<<<EOF", "a<<EOF", "<EOF", "\"<<EOF\"", "<<a b", "<<EOF<"] {
            assert_eq!(opening(other), None, "{other}");
        }
    }

    #[test]
    fn openings_come_in_order_with_their_spans() {
        let mut line = Line::default();
        line.push("RUN cat <<A '<<no' <<  B | x", 0);
        let found = openings(&line, 3..line.text.len());
        let names: Vec<_> = found.iter().map(|o| (o.name.as_str(), o.span)).collect();
        assert_eq!(names, [("A", Span::new(8, 11)), ("B", Span::new(19, 24))]);
    }

    #[test]
    fn body_drops_carriage_returns_and_keeps_spans_p_1() {
        let text = "a\r\n\tb\r\n\tEOF\r\nRUN x";
        let opening = Opening { chomp: true, ..parse_word("<<-EOF").unwrap() };
        let (heredoc, next) = read_body(text, 0, opening).unwrap();
        assert_eq!(heredoc.raw.text, "a\n\tb\n");
        assert_eq!(heredoc.body().text, "a\nb\n");
        assert_eq!(heredoc.body().locate(2..3), Span::new(4, 5));
        assert_eq!(&text[next..], "RUN x");
    }
}
