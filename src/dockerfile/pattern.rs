//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}` (V-6…V-8).
//!
//! **Holds.** `*` matches any run of characters and `?` any one character, except newlines. `/` is not special; there
//! are no bracket expressions. `\*`, `\?`, `\\`, `\/` and `\}` match the character itself.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    Any,
    Star,
}

impl Piece {
    fn takes(self, c: char) -> bool {
        match self {
            Piece::Char(own) => own == c,
            Piece::Any | Piece::Star => c != '\n',
        }
    }
}

/// A parsed pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<Piece>);

impl Pattern {
    /// Parses a pattern; the error is the character after a `\` that may not be escaped.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Star,
                '?' => Piece::Any,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Piece::Char(c),
                    other => return Err(other.map(String::from).unwrap_or_default()),
                },
                c => Piece::Char(c),
            });
        }
        Ok(Self(pieces))
    }

    /// Whether all of `value` matches.
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.trim_prefix(value, true).is_empty()
    }

    /// `value` without the shortest or longest prefix that matches.
    pub(super) fn trim_prefix<'a>(&self, value: &'a str, longest: bool) -> &'a str {
        let matched = Matcher::new(&self.0).run(value.char_indices().map(|(at, c)| (at + c.len_utf8(), c)), longest);
        matched.map_or(value, |end| &value[end..])
    }

    /// `value` without the shortest or longest suffix that matches.
    pub(super) fn trim_suffix<'a>(&self, value: &'a str, longest: bool) -> &'a str {
        let backwards: Vec<Piece> = self.0.iter().rev().copied().collect();
        let chars = value.char_indices().rev();
        let length = value.len();
        let matched = Matcher::new(&backwards).run(chars.map(|(at, c)| (length - at, c)), longest);
        matched.map_or(value, |taken| &value[..length - taken])
    }

    /// `value` with the first (or every) longest match replaced; nothing if the result would exceed `limit` bytes.
    pub(super) fn replace(&self, value: &str, new: &str, all: bool, limit: usize) -> Option<String> {
        let mut out = String::new();
        // The end of the last match, and where to look next. An empty match right after another one does not count, and
        // every match advances, so that an empty pattern ends too.
        let (mut kept, mut at) = (0, 0);
        let mut matcher = Matcher::new(&self.0);
        let mut found_any = false;
        while at <= value.len() {
            let rest = &value[at..];
            let step = rest.chars().next().map_or(1, char::len_utf8);
            let found = if self.cannot_start(rest) {
                None
            } else {
                matcher.run(rest.char_indices().map(|(i, c)| (i + c.len_utf8(), c)), true)
            };
            match found {
                Some(length) => {
                    let end = at + length;
                    out.push_str(&value[kept..at]);
                    if end > kept || at == 0 {
                        out.push_str(new);
                    }
                    kept = end;
                    found_any = true;
                    at = if end > at { end } else { at + step };
                    if !all || out.len() > limit {
                        break;
                    }
                }
                // With a `*` in the pattern, a later start cannot match either.
                None if self.cannot_match_later(rest) => break,
                None => at += step,
            }
        }
        if !found_any {
            return Some(value.to_owned());
        }
        out.push_str(&value[kept..]);
        (out.len() <= limit).then_some(out)
    }

    fn cannot_start(&self, rest: &str) -> bool {
        match self.0.first() {
            Some(piece @ (Piece::Char(_) | Piece::Any)) => !rest.chars().next().is_some_and(|c| piece.takes(c)),
            _ => false,
        }
    }

    /// After a failed match: the part before the first `*` matched, so that no later start on the same line can match.
    fn cannot_match_later(&self, rest: &str) -> bool {
        let Some(star) = self.0.iter().position(|p| *p == Piece::Star) else { return false };
        let mut chars = rest.chars();
        let head = self.0[..star].iter().all(|piece| chars.next().is_some_and(|c| piece.takes(c)));
        head && !rest.contains('\n')
    }
}

/// Follows all positions in the pattern at once, so that the time is at most text times pattern.
struct Matcher<'p> {
    pieces: &'p [Piece],
    now: Vec<bool>,
    next: Vec<bool>,
}

impl<'p> Matcher<'p> {
    fn new(pieces: &'p [Piece]) -> Self {
        Self { pieces, now: vec![false; pieces.len() + 1], next: vec![false; pieces.len() + 1] }
    }

    /// The end of the longest (or shortest) match at the start of `chars`, each of which comes with the offset after
    /// it.
    fn run(&mut self, chars: impl Iterator<Item = (usize, char)>, longest: bool) -> Option<usize> {
        self.now.fill(false);
        self.now[0] = true;
        skip_stars(self.pieces, &mut self.now);
        let end = self.pieces.len();
        let mut matched = self.now[end].then_some(0);
        for (behind, c) in chars {
            if matched.is_some() && !longest {
                break;
            }
            self.next.fill(false);
            let mut alive = false;
            for (i, piece) in self.pieces.iter().enumerate() {
                if self.now[i] && piece.takes(c) {
                    self.next[if *piece == Piece::Star { i } else { i + 1 }] = true;
                    alive = true;
                }
            }
            if !alive {
                break;
            }
            skip_stars(self.pieces, &mut self.next);
            std::mem::swap(&mut self.now, &mut self.next);
            if self.now[end] {
                matched = Some(behind);
            }
        }
        matched
    }
}

fn skip_stars(pieces: &[Piece], places: &mut [bool]) {
    for i in 0..pieces.len() {
        if places[i] && pieces[i] == Piece::Star {
            places[i + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(value: &str, pattern: &str, new: &str, all: bool) -> String {
        Pattern::new(pattern).unwrap().replace(value, new, all, 1000).unwrap()
    }

    #[test]
    fn pattern_removes_prefixes_and_suffixes_v_6_v_7() {
        let table = [
            // value, pattern, #, ##, %, %%
            ("a/b/c", "*/", "b/c", "c", "a/b/c", "a/b/c"),
            ("a/b/c", "/*", "a/b/c", "a/b/c", "a/b", "a"),
            ("abab", "ab", "ab", "ab", "ab", "ab"),
            ("aaa", "a*", "aa", "", "aa", ""),
            ("aaa", "", "aaa", "aaa", "aaa", "aaa"),
            ("äöü", "?", "öü", "öü", "äö", "äö"),
            ("äöü", "*ö", "ü", "ü", "äöü", "äöü"),
            ("a*b", "a\\*", "b", "b", "a*b", "a*b"),
            ("[x]y", "[x]", "y", "y", "[x]y", "[x]y"),
        ];
        for (value, pattern, a, b, c, d) in table {
            let p = Pattern::new(pattern).unwrap();
            let got = (
                p.trim_prefix(value, false),
                p.trim_prefix(value, true),
                p.trim_suffix(value, false),
                p.trim_suffix(value, true),
            );
            assert_eq!(got, (a, b, c, d), "{value} {pattern}");
        }
    }

    #[test]
    fn replace_takes_leftmost_longest_match_v_8() {
        assert_eq!(replace("a.b.c", ".", "-", false), "a-b.c");
        assert_eq!(replace("a.b.c", ".", "-", true), "a-b-c");
        assert_eq!(replace("aaaa", "aa", "b", true), "bb");
        assert_eq!(replace("xaybxc", "a*b", "-", true), "x-xc");
        assert_eq!(replace("abc", "*", "x", true), "x");
        assert_eq!(replace("abc", "", "x", true), "xaxbxcx");
        assert_eq!(replace("abc", "", "x", false), "xabc");
        assert_eq!(replace("", "*", "x", true), "x");
        assert_eq!(replace("a/b", "\\/", "", true), "ab");
        assert_eq!(replace("äbä", "ä", "", true), "b");
    }

    #[test]
    fn pattern_rejects_unknown_escape() {
        assert_eq!(Pattern::new("a\\b").unwrap_err(), "b");
        assert_eq!(Pattern::new("a\\").unwrap_err(), "");
    }

    #[test]
    fn replace_of_long_value_is_fast() {
        let value = "a".repeat(200_000);
        assert_eq!(replace(&value, "a*b", "", true).len(), value.len());
    }
}
