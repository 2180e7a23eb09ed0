//! The arguments of a logical line: words between blanks, quoted words, JSON lists.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::line::Line;
use super::word::{Word, WordBuilder};

/// The blanks that separate arguments; other Unicode blanks are part of a word.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Words between blanks; quotes are not special (COPY, FROM, EXPOSE, VOLUME).
pub(super) fn split(line: &Line, range: Range<usize>) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = range.start;
    let text = &line.text[range];
    for word in text.split(BLANKS) {
        if !word.is_empty() {
            out.push(at..at + word.len());
        }
        at += word.len() + 1;
    }
    out
}

/// Words between blanks that are not quoted or escaped (ENV, LABEL, ARG). Quotes stay in the word: expansion removes
/// them. An escape at the end is dropped.
pub(super) fn quoted(line: &Line, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let text = &line.text[range.clone()];
    let mut chars = text.char_indices();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(start) = start.take() {
                out.push(range.start + start..range.start + at);
            }
            continue;
        }
        if c == escape && quote != Some('\'') {
            match chars.next() {
                Some(_) => _ = start.get_or_insert(at),
                None => end = at,
            }
            continue;
        }
        start.get_or_insert(at);
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
    }
    if let Some(start) = start {
        out.push(range.start + start..range.start + end);
    }
    out
}

/// How a text that may be a JSON list was read.
#[derive(Debug)]
pub(super) enum List {
    /// A list of strings.
    Strings(Vec<Word>),
    /// A list with an element that is not a string: an error.
    Mixed(Diagnostic),
    /// Not a list: the shell form.
    Not,
}

/// Reads `range` as a JSON list of strings (P-11).
pub(super) fn json(line: &Line, range: Range<usize>) -> List {
    let text = &line.text[range.clone()];
    if !text.trim_start().starts_with('[') {
        return List::Not;
    }
    let mut json = Json { line, at: range.start, end: range.end, count: 0 };
    if let Some(words) = json.list() {
        return List::Strings(words);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(values) => List::Mixed(json.mixed(&values)),
        Err(_) => List::Not,
    }
}

/// Whether `text`, which is not a JSON list of strings, was probably meant to be one: its first element has quotes,
/// but not those of JSON.
pub(crate) fn resembles_json(text: &str) -> bool {
    let Some(inside) = text.trim_start().strip_prefix('[') else { return false };
    // `[ "$A" = b ]` and `[ 'a' = b ]` are shell commands.
    inside.starts_with(['"', '\'']) || inside.trim_start().starts_with(TYPOGRAPHIC)
}

/// Typographic quotes, which word processors write for `"` and `'`.
pub(super) const TYPOGRAPHIC: [char; 8] =
    ['\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];

/// A JSON reader that keeps the position of each string.
struct Json<'l> {
    line: &'l Line,
    at: usize,
    end: usize,
    /// Strings read so far.
    count: usize,
}

impl Json<'_> {
    fn list(&mut self) -> Option<Vec<Word>> {
        let mut words = Vec::new();
        self.blanks();
        self.take(b'[')?;
        self.blanks();
        if self.take(b']').is_none() {
            loop {
                words.push(self.string()?);
                self.count += 1;
                self.blanks();
                if self.take(b']').is_some() {
                    break;
                }
                self.take(b',')?;
                self.blanks();
            }
        }
        self.blanks();
        (self.at == self.end).then_some(words)
    }

    /// The problem of the element where [`Json::list`] stopped.
    fn mixed(&self, values: &[serde_json::Value]) -> Diagnostic {
        let rest = &self.line.text[self.at..self.end];
        let mut elements = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        let length = elements.next().map_or(0, |_| elements.byte_offset());
        let span = self.line.span(self.at..self.at + length.max(1));
        let message = format!("element {} of the JSON list is not a string", self.count + 1);
        let hint = match values.get(self.count) {
            Some(serde_json::Value::Array(_) | serde_json::Value::Object(_)) | None => {
                "the list holds strings only, each in double quotes".to_owned()
            }
            Some(value) => format!("write \"{value}\""),
        };
        Diagnostic::error(span, message).hint(hint)
    }

    fn peek(&self) -> Option<u8> {
        if self.at < self.end { self.line.text.as_bytes().get(self.at).copied() } else { None }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        // The list may be indented by any blank; inside it only these four count.
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<Word> {
        let start = self.at;
        self.take(b'"')?;
        let mut word = WordBuilder::default();
        loop {
            let from = self.at;
            while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
                self.at += 1;
            }
            if self.at > from {
                // A continuation inside the string makes it two pieces.
                for (i, c) in self.line.text[from..self.at].char_indices() {
                    word.push_char(c, self.line.locate(from + i));
                }
            }
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(word.finish(self.line.span(start..self.at)));
                }
                b'\\' => {
                    let from = self.at;
                    let c = self.escape()?;
                    word.push_char(c, self.line.locate(from));
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        self.at += 1;
        let c = self.peek()?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => char::from(c),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    /// `\uHHHH`, or a surrogate pair; a lone surrogate becomes U+FFFD.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if let Some(c) = char::from_u32(first) {
            return Some(c);
        }
        let back = self.at;
        if (0xd800..0xdc00).contains(&first)
            && self.take(b'\\').is_some()
            && self.take(b'u').is_some()
            && let Some(second @ 0xdc00..0xe000) = self.hex()
        {
            return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        self.at = back;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.line.text.get(self.at..self.at + 4).filter(|_| self.at + 4 <= self.end)?;
        let value = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())??;
        self.at += 4;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let mut line = Line::default();
        line.push(text, 0);
        line
    }

    fn texts(text: &str, ranges: Vec<Range<usize>>) -> Vec<&str> {
        ranges.into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn split_and_quoted_separate_words_at_blanks() {
        let text = "a  'b c'\t\"d\" ";
        assert_eq!(texts(text, split(&line(text), 0..text.len())), ["a", "'b", "c'", "\"d\""]);
        assert_eq!(texts(text, quoted(&line(text), 0..text.len(), '\\')), ["a", "'b c'", "\"d\""]);
        let text = "a\\ b=c d=\"x\\\" y\" e\\";
        assert_eq!(texts(text, quoted(&line(text), 0..text.len(), '\\')), ["a\\ b=c", "d=\"x\\\" y\"", "e"]);
        let text = "a='\\' b=`\" c";
        assert_eq!(texts(text, quoted(&line(text), 0..text.len(), '\\')), ["a='\\'", "b=`\" c"]);
        assert_eq!(texts(text, quoted(&line(text), 0..text.len(), '`')), ["a='\\'", "b=`\"", "c"]);
    }

    #[test]
    fn resembles_json_finds_lists_in_wrong_quotes() {
        for text in
            ["[\u{201c}a\u{201d}, \u{201c}b\u{201d}]", " [ \u{2018}a\u{2019}]", "['a', 'b']", "[\"a\", b]", "[\"a\",]"]
        {
            assert!(resembles_json(text), "{text}");
        }
        for text in ["[ -f x ]", "[ \"$A\" = b ]", "[ 'a' = b ]", "[", "a", "echo \u{201c}a\u{201d}"] {
            assert!(!resembles_json(text), "{text}");
        }
    }

    #[test]
    fn json_distinguishes_lists_from_shell_text_p_11() {
        let kind = |text: &str| match json(&line(text), 0..text.len()) {
            List::Strings(words) => words.into_iter().map(|w| w.text).collect::<Vec<_>>().join("|"),
            List::Mixed(_) => "mixed".to_owned(),
            List::Not => "not".to_owned(),
        };
        assert_eq!(kind(r#"["a", "b\n\"\u00e9\ud83d\ude00\ud800"]"#), "a|b\n\"é😀\u{fffd}");
        assert_eq!(kind(r#" [ "a" , "b" ] "#), "a|b");
        assert_eq!(kind("[]"), "");
        assert_eq!(kind(r#"["a", 1]"#), "mixed");
        assert_eq!(kind(r#"["a", ["b"]]"#), "mixed");
        for other in ["['a']", r#"["a"] x"#, r#"["a",]"#, r#"["a" "b"]"#, r#"["\x"]"#, "[", "a", r#"["a"#] {
            assert_eq!(kind(other), "not", "{other}");
        }
    }
}
