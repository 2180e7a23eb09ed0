//! Finds functions and their length.

use crate::reader::{line_of, words};

/// A function in a file: its name, the line it starts at, and how many lines it has, both braces included.
pub(crate) struct Function<'c> {
    pub(crate) name: &'c str,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// All functions of `code` that have a body, nested ones included.
pub(crate) fn functions(code: &str) -> Vec<Function<'_>> {
    let words = words(code);
    let mut found = Vec::new();
    for pair in words.windows(2) {
        let [(at, "fn"), (name_at, name)] = *pair else { continue };
        // A function type has no name: `fn(u8)`.
        if !code[at + 2..name_at].chars().all(char::is_whitespace) {
            continue;
        }
        let Some(len) = body_end(&code[at..]) else { continue };
        found.push(Function { name, line: line_of(code, at), lines: code[at..at + len].matches('\n').count() + 1 });
    }
    found
}

/// Where the body of the function at the start of `code` ends; `None` if it has none.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (at, c) in code.char_indices() {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets = brackets.saturating_sub(1),
            // The semicolon in a parameter `[u8; 4]` does not end the declaration.
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_measured_from_name_to_brace() {
    let code = "trait T { fn none(&self, a: [u8; 4]); }\nfn two(a: [u8; 2]) -> u8 {\n    1 }\nfn outer() {\n    fn inner() {}\n}\n";
    let found: Vec<_> = functions(code).iter().map(|f| (f.name.to_owned(), f.line, f.lines)).collect();
    let want = [("two", 2, 2), ("outer", 4, 3), ("inner", 5, 1)];
    assert_eq!(found, want.map(|(name, line, lines)| (name.to_owned(), line, lines)));
}
