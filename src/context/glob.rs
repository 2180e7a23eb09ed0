//! Path patterns in two dialects.
//!
//! [`Glob::go`] is Go's `filepath.Match`, which COPY sources use (C-3): `*` and `?` stay within one name. Every
//! pattern of either dialect must be one that `filepath.Match` accepts. [`Glob::moby`] is what ignore files and
//! `--exclude` use (G-5): the same and `**`, with these corners: `**/` or a `**` in the middle is nothing or whatever
//! ends in a slash; at the end it is anything; a pattern that is `**` and plain text matches every path with that ending.
//!
//! Matching follows all alternatives at once, so its time is at most the product of pattern and path length.

use std::borrow::Cow;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    /// The path is this.
    Exact(Vec<u8>),
    /// The path begins so.
    Prefix(Vec<u8>),
    /// The path ends so, or it is all of it but the leading slash.
    Suffix(Vec<u8>),
    /// Text, then tokens, then text.
    Tokens { before: Vec<u8>, tokens: Vec<Token>, after: Vec<u8>, all: Vec<Token> },
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(u32),
    /// `?`: one character that is no slash.
    One,
    /// `*`: any characters that are no slash.
    Star,
    /// `**` in the middle: either skipped together with the `Dirs` that follows it, or entered.
    OptionalDirs,
    /// Anything up to a slash.
    Dirs,
    /// `**` at the end.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

/// The first character and its length. A byte that is not UTF-8 is a character of its own, above all others.
fn decode(bytes: &[u8]) -> (u32, usize) {
    let len = match bytes[0] {
        b @ 0..0x80 => return (u32::from(b), 1),
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => 0,
    };
    let char = bytes.get(..len).and_then(|b| std::str::from_utf8(b).ok()).and_then(|s| s.chars().next());
    match char {
        Some(c) => (c as u32, len),
        None => (0x11_0000 + u32::from(bytes[0]), 1),
    }
}

fn encode(c: u32, out: &mut Vec<u8>) {
    match char::from_u32(c) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.push((c & 0xff) as u8),
    }
}

const UNFINISHED_ESCAPE: &str = "nothing follows the backslash";
const UNFINISHED_CLASS: &str = "`[` is never closed";
const BAD_CLASS: &str = "`[` must be followed by characters or ranges";

/// One possibly escaped character of a class.
fn class_char(pattern: &[u8], at: &mut usize) -> Result<u32, &'static str> {
    match pattern.get(*at) {
        None => return Err(UNFINISHED_CLASS),
        Some(b'-' | b']') => return Err(BAD_CLASS),
        Some(b'\\') => *at += 1,
        Some(_) => {}
    }
    let rest = pattern.get(*at..).filter(|r| !r.is_empty()).ok_or(UNFINISHED_CLASS)?;
    let (c, len) = decode(rest);
    if c >= 0x11_0000 {
        return Err("a class may hold UTF-8 only");
    }
    *at += len;
    if *at == pattern.len() { Err(UNFINISHED_CLASS) } else { Ok(c) }
}

/// The class that begins after `[` at `at`.
fn class(pattern: &[u8], at: &mut usize) -> Result<Token, &'static str> {
    let negated = pattern.get(*at) == Some(&b'^');
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    while ranges.is_empty() || pattern.get(*at) != Some(&b']') {
        let low = class_char(pattern, at)?;
        let mut high = low;
        if pattern.get(*at) == Some(&b'-') {
            *at += 1;
            high = class_char(pattern, at)?;
        }
        ranges.push((low, high));
    }
    *at += 1;
    Ok(Token::Class { negated, ranges })
}

/// The pattern in pieces; `stars` = `**` has a meaning.
fn parse(pattern: &[u8], stars: bool) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'*' if stars && pattern.get(at + 1) == Some(&b'*') => {
                at += 2;
                at += usize::from(pattern.get(at) == Some(&b'/'));
                if at == pattern.len() {
                    tokens.push(Token::Rest);
                } else {
                    tokens.extend([Token::OptionalDirs, Token::Dirs]);
                }
            }
            b'*' => {
                at += 1;
                tokens.push(Token::Star);
            }
            b'?' => {
                at += 1;
                tokens.push(Token::One);
            }
            b'[' => {
                at += 1;
                tokens.push(class(pattern, &mut at)?);
            }
            first => {
                at += usize::from(first == b'\\');
                let rest = pattern.get(at..).filter(|r| !r.is_empty()).ok_or(UNFINISHED_ESCAPE)?;
                let (c, len) = decode(rest);
                tokens.push(Token::Char(c));
                at += len;
            }
        }
    }
    Ok(tokens)
}

/// moby makes a regular expression of a pattern, and some that `filepath.Match` accepts make none (N-28).
fn refused_by_regexp(pattern: &[u8], tokens: &[Token]) -> Result<(), &'static str> {
    let backwards = |token: &Token| match token {
        Token::Class { ranges, .. } => ranges.iter().any(|(low, high)| low > high),
        _ => false,
    };
    if tokens.iter().any(backwards) {
        return Err("a range in `[…]` is reversed");
    }
    let mut at = 0;
    while let Some(escape) = pattern[at..].iter().position(|&b| b == b'\\') {
        let escaped = pattern.get(at + escape + 1).copied().unwrap_or_default();
        // These mean something in a regular expression; other letters and digits after a backslash do not.
        if escaped.is_ascii_alphanumeric() && !b"01234567abdfnprstvxzABDPQSW".contains(&escaped) {
            return Err(
                "a backslash escapes the next character, which has no special meaning here; names are separated by /",
            );
        }
        at += escape + 2;
        if at >= pattern.len() {
            break;
        }
    }
    Ok(())
}

/// The plain text that `tokens` begin (or, from the back, end) with.
fn text<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<u32> {
    tokens.map_while(|t| if let Token::Char(c) = t { Some(*c) } else { None }).collect()
}

impl Glob {
    /// A pattern of COPY.
    pub(super) fn go(pattern: &[u8]) -> Result<Self, &'static str> {
        Ok(Self::from_tokens(parse(pattern, false)?))
    }

    /// A pattern of an ignore file, cleaned.
    pub(super) fn moby(pattern: &[u8]) -> Result<Self, &'static str> {
        let tokens = parse(pattern, true)?;
        refused_by_regexp(pattern, &tokens)?;
        let plain = |text: &[u8]| !text.iter().any(|b| b"*?[]\\".contains(b));
        let shape = match pattern {
            _ if plain(pattern) => Shape::Exact(pattern.to_vec()),
            [b'*', b'*', rest @ ..] if plain(rest) => Shape::Suffix(rest.to_vec()),
            [start @ .., b'*', b'*'] if plain(start) => Shape::Prefix(start.to_vec()),
            _ => return Ok(Self::from_tokens(tokens)),
        };
        Ok(Self { shape })
    }

    fn from_tokens(all: Vec<Token>) -> Self {
        let encoded = |chars: &mut dyn Iterator<Item = u32>| {
            let mut out = Vec::new();
            chars.for_each(|c| encode(c, &mut out));
            out
        };
        let start = text(all.iter());
        if start.len() == all.len() {
            return Self { shape: Shape::Exact(encoded(&mut start.into_iter())) };
        }
        let end = text(all.iter().rev());
        let tokens = all[start.len()..all.len() - end.len()].to_vec();
        let before = encoded(&mut start.into_iter());
        let after = encoded(&mut end.into_iter().rev());
        Self { shape: Shape::Tokens { before, tokens, after, all } }
    }

    /// What the pattern matches, if that is one path only.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        match &self.shape {
            Shape::Exact(text) => Some(text),
            _ => None,
        }
    }

    /// The pattern matches the whole of `path`.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(text) => path == text,
            Shape::Prefix(text) => path.starts_with(text),
            Shape::Suffix(text) => path.ends_with(text) || text.strip_prefix(b"/") == Some(path),
            Shape::Tokens { before, tokens, after, .. } => {
                path.len() >= before.len() + after.len()
                    && path.starts_with(before)
                    && path.ends_with(after)
                    && run(tokens, &path[before.len()..path.len() - after.len()]).1
            }
        }
    }

    /// The pattern can match some path below directory `dir`.
    pub(super) fn may_match_below(&self, dir: &[u8]) -> bool {
        let begins = |text: &[u8]| super::path::below(text, dir).is_some();
        match &self.shape {
            Shape::Exact(text) => begins(text),
            Shape::Prefix(text) => begins(text) || dir.starts_with(text) || [dir, b"/"].concat() == *text,
            Shape::Suffix(_) => true,
            Shape::Tokens { all, .. } => {
                let mut start = Cow::Borrowed(dir);
                if !dir.is_empty() {
                    start.to_mut().push(b'/');
                }
                run(all, &start).0
            }
        }
    }
}

/// Whether `text` can begin a match of `tokens`, and whether it is one.
fn run(tokens: &[Token], mut text: &[u8]) -> (bool, bool) {
    let mut now = vec![false; tokens.len() + 1];
    let mut next = now.clone();
    enter(tokens, 0, &mut now);
    while !text.is_empty() {
        let (c, len) = decode(text);
        text = &text[len..];
        let slash = c == u32::from(b'/');
        let mut alive = false;
        next.fill(false);
        for at in (0..tokens.len()).filter(|&at| now[at]) {
            let (stay, pass) = match &tokens[at] {
                Token::Char(want) => (false, c == *want),
                Token::One => (false, !slash),
                Token::Star => (!slash, false),
                Token::OptionalDirs => (false, false),
                Token::Dirs => (true, slash),
                Token::Rest => (true, false),
                Token::Class { negated, ranges } => {
                    (false, ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated)
                }
            };
            alive |= stay || pass;
            if stay {
                enter(tokens, at, &mut next);
            }
            if pass {
                enter(tokens, at + 1, &mut next);
            }
        }
        std::mem::swap(&mut now, &mut next);
        if !alive {
            return (false, false);
        }
    }
    (true, now[tokens.len()])
}

/// Marks `at` and every position that is reached from it without a character; those all lie ahead.
fn enter(tokens: &[Token], mut at: usize, set: &mut [bool]) {
    while !std::mem::replace(&mut set[at], true) {
        match tokens.get(at) {
            Some(Token::Star | Token::Rest) => at += 1,
            Some(Token::OptionalDirs) => {
                set[at + 1] = true;
                at += 2;
            }
            _ => return,
        }
    }
}

/// Whether Go's `filepath.Match` matches. Err: the pattern is not one.
pub(crate) fn go_match(pattern: &str, text: &str) -> Result<bool, &'static str> {
    Ok(Glob::go(pattern.as_bytes())?.matches(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_patterns_match_like_go() {
        // C-3; the cases of the documentation of filepath.Match and its corners
        for (pattern, path, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("[!a]", "!", true),
            ("{a,b}", "a", false),
            ("**", "a/b", false),
            ("[[]x", "[x", true),
        ] {
            assert_eq!(Glob::go(pattern.as_bytes()).unwrap().matches(path.as_bytes()), want, "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_go_rejects_are_rejected() {
        // G-8, S-11
        for bad in
            ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]", "[\\", "[a-", "[]", "x[^]"]
        {
            assert!(Glob::go(bad.as_bytes()).is_err(), "{bad}");
            assert!(Glob::moby(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn ignore_patterns_must_be_valid_regular_expressions() {
        for bad in
            ["[Local-Only]", "[z-a]", "a/[b-a]/c", "**/[9-0]", "[^Z-A]", "src\\lib", "obj\\gen", "a/\\k", "[a\\y]"]
        {
            assert!(Glob::moby(bad.as_bytes()).is_err(), "{bad}");
            assert!(Glob::go(bad.as_bytes()).is_ok(), "{bad}");
        }
        for good in ["[a-z]", "[a-a]", "[L-o]", "[\\]a]", "a\\*", "a\\[b", "\\#", "\\ä", "\\\\k"] {
            assert!(Glob::moby(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn ignore_patterns_match_like_moby() {
        // G-5
        for (pattern, path, want) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "a/dir", true),
            ("**/dir", "a/xdir", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/dir/file", true),
            ("**/file", "dir/file", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt", "dir/dir/filetxt", false),
            ("**/file*.txt*", "dir/dir/file.txtfile", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc?def", "abcZdef", true),
            ("a\\\\", "a\\", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true),
            ("a**b", "a/x/b", true),
            ("a**b", "axb", false),
            ("foo**", "foobar/x", true),
        ] {
            let clean = crate::context::path::clean(pattern.as_bytes());
            assert_eq!(Glob::moby(&clean).unwrap().matches(path.as_bytes()), want, "{pattern} {path}");
        }
    }

    #[test]
    fn directory_is_searched_only_if_it_may_hold_a_match() {
        // G-10
        for (pattern, dir, want) in [
            ("a/b/c", "a", true),
            ("a/b/c", "a/b", true),
            ("a/b/c", "a/b/c", false),
            ("a/b/c", "b", false),
            ("a/*/c", "a/x", true),
            ("a/*/c", "a/x/y", false),
            ("*/keep", "x", true),
            ("**/keep", "x/y", true),
            ("a/**/keep", "a/y/z", true),
            ("a/**/keep", "b", false),
            ("a/**", "a", true),
            ("a/**", "a/x/y", true),
            ("a/b/**", "a", true),
            ("keep*", "node_modules", false),
            ("ab", "a", false),
        ] {
            assert_eq!(
                Glob::moby(pattern.as_bytes()).unwrap().may_match_below(dir.as_bytes()),
                want,
                "{pattern} {dir}"
            );
        }
    }
}
