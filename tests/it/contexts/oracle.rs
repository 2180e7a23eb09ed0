//! The fuzzing oracle for ignore files: a slow reference matcher for any file and path. Shared with `fuzz/`.

use kiln::context::{IgnoreFile, Matcher};

/// One piece of a pattern.
#[derive(Clone, Copy)]
enum Piece {
    /// `**` at the end: anything.
    Rest,
    /// `**` or `**/` elsewhere: nothing, or anything that ends in a slash.
    Dirs,
    /// `*`: anything within a name.
    Star,
    /// `?`: one character of a name.
    One,
    /// This character.
    Char(char),
}

/// Checks an input of an ignore file, a NUL and a path: valid rules match like the slow definition, and no rule makes
/// matching panic or hang.
pub fn ignore(bytes: &[u8]) {
    let (text, path) = match bytes.iter().position(|&b| b == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &b"a/b"[..]),
    };
    let file = IgnoreFile { name: "ignore".to_owned(), text: text.to_vec() };
    let path = kiln::context::anchor(path);
    let Ok(matcher) = Matcher::parse(&file) else { return };
    let got = matcher.excludes(&path);
    if let (Ok(text), Ok(path)) = (std::str::from_utf8(text), std::str::from_utf8(&path))
        && let Some(want) = slow(text, path)
    {
        assert_eq!(got, want, "{text:?} on {path:?}");
    }
}

/// The slow definition: the last line that matches the path or a directory above it decides. `None` for inputs that are
/// not covered (character classes, and texts that would take long).
fn slow(text: &str, path: &str) -> Option<bool> {
    if text.contains(['[', ']', '\\']) || text.len() > 256 || path.len() > 64 || path.is_empty() {
        return None;
    }
    let above = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &path[..at]);
    let names: Vec<Vec<char>> = above.chain([path]).map(|p| p.chars().collect()).collect();
    let mut out = false;
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').filter(|line| !line.starts_with('#')) {
        let line = line.trim();
        let (negated, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if pattern.is_empty() {
            continue;
        }
        let clean = kiln::context::clean(pattern.as_bytes());
        let clean = String::from_utf8(clean).ok()?;
        let clean = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
        if clean.matches("**").count() > 4 || clean.matches('*').count() > 8 {
            return None;
        }
        let pieces = pieces(clean);
        // Docker's shortcut: plain text after a leading `**` matches any suffix, also within a name.
        let end = clean.strip_prefix("**").filter(|end| !end.contains(['*', '?']));
        let ends = |name: &Vec<char>| {
            let name: String = name.iter().collect();
            end.is_some_and(|end| name.ends_with(end) || end.strip_prefix('/') == Some(&name))
        };
        if names.iter().any(|name| matches(&pieces, name) || ends(name)) {
            out = !negated;
        }
    }
    Some(out)
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            rest = after.strip_prefix('/').unwrap_or(after);
            out.push(if rest.is_empty() { Piece::Rest } else { Piece::Dirs });
            continue;
        }
        rest = &rest[c.len_utf8()..];
        out.push(match c {
            '*' => Piece::Star,
            '?' => Piece::One,
            c => Piece::Char(c),
        });
    }
    out
}

fn matches(pieces: &[Piece], name: &[char]) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return name.is_empty() };
    match piece {
        Piece::Rest => true,
        Piece::Dirs => {
            matches(rest, name) || (1..=name.len()).any(|at| name[at - 1] == '/' && matches(rest, &name[at..]))
        }
        Piece::Star => {
            let end = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=end).any(|at| matches(rest, &name[at..]))
        }
        Piece::One => name.first().is_some_and(|c| *c != '/') && matches(rest, &name[1..]),
        Piece::Char(c) => name.first() == Some(c) && matches(rest, &name[1..]),
    }
}
