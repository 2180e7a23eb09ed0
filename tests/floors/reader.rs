//! Reads sources as text: lists files, blanks comments and literals, and finds the names in the remaining code.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files below `dir`, relative to the repository, sorted.
pub(crate) fn sources(dir: &str) -> Vec<PathBuf> {
    files(dir, "rs")
}

/// All files below `dir` with that extension, relative to the repository, sorted. Hidden and build directories are
/// skipped.
pub(crate) fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(dir)];
    while let Some(dir) = todo.pop() {
        for item in fs::read_dir(&dir).into_iter().flatten() {
            let path = item.expect("read a directory entry").path();
            let skipped = |name: &OsStr| name == "target" || name.as_encoded_bytes().starts_with(b".");
            if path.is_symlink() || path.file_name().is_some_and(skipped) {
                continue;
            }
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// `text` with comments and string literals blanked, so that only code is left. Line numbers stay the same. Raw strings
/// with any number of `#` are recognised.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    let blank = |b: u8| if b == b'\n' { b'\n' } else { b' ' };
    while i < bytes.len() {
        let rest = &bytes[i..];
        let end = if rest.starts_with(b"//") {
            i + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            i + find(rest, b"*/").map_or(rest.len(), |n| n + 2)
        } else if let Some(hashes) = raw_string(rest, i.checked_sub(1).map(|p| bytes[p])) {
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let open = rest.iter().position(|&b| b == b'"').expect("raw_string saw a quote") + 1;
            i + open + find(&rest[open..], &close).map_or(rest.len() - open, |n| n + close.len())
        } else if rest[0] == b'"' {
            i + quoted(rest)
        } else if rest.starts_with(b"'\"'") {
            i + 3
        } else if rest.starts_with(b"'\\") {
            i + 2 + rest[3..].iter().position(|&b| b == b'\'').map_or(0, |n| n + 2)
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        };
        out.extend(bytes[i..end.min(bytes.len())].iter().map(|&b| blank(b)));
        i = end;
    }
    String::from_utf8(out).expect("blanking keeps UTF-8: whole literals are replaced")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// The number of `#` if a raw string starts here.
fn raw_string(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|b| b.is_ascii_alphanumeric() && b != b'b' || b == b'_') || rest[0] != b'r' {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// The length of a string literal, both quotes included.
fn quoted(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != b'"' {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

pub(crate) fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The words of `code` with the byte they start at.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let len = bytes[i..].iter().take_while(|&&b| is_word(b)).count();
        if len > 0 {
            out.push((i, &code[i..i + len]));
        }
        i += len.max(1);
    }
    out
}

/// The first names after `at`, which follows a `crate` or the last `super`: `::x` gives `x`, `::{x::y, z}` gives both.
fn heads(code: &str, at: usize) -> Vec<String> {
    let Some(rest) = code[at..].trim_start().strip_prefix("::") else { return Vec::new() };
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        return vec![rest.chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == '*').collect()];
    };
    let (mut depth, mut start, mut names) = (0, true, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && (c.is_alphanumeric() || c == '_' || c == '*') => {
                start = false;
                names.push(group[i..].chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == '*').collect());
            }
            _ => {}
        }
    }
    names
}

/// The top-level modules that `code`, at `depth` modules below the crate root, names.
pub(crate) fn named(code: &str, depth: usize) -> Vec<(usize, String)> {
    let words = words(code);
    let mut out = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let (at, word) = words[i];
        let mut end = at + word.len();
        let mut supers = usize::from(word == "super");
        while supers > 0 && words.get(i + 1).is_some_and(|&(a, w)| w == "super" && code[end..a].trim() == "::") {
            i += 1;
            supers += 1;
            end = words[i].0 + "super".len();
        }
        if word == "crate" || supers >= depth.max(1) {
            // Inside an inline `mod tests` a chain is one longer; the name after it then matches no module.
            out.extend(heads(code, end).into_iter().map(|name| (at, name)));
        }
        i += 1;
    }
    out
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
