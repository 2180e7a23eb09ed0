//! The heredocs of one instruction: openings on its line, bodies after it (P-16).

use std::ops::Range;

use super::cursor::Cursor;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::heredoc::{self, Heredoc};
use crate::dockerfile::line::{Line, physical, too_long};
use crate::dockerfile::source::Span;

/// Reads the bodies of the heredocs that `range` opens and moves the cursor after them. Nothing: one does not end.
pub(super) fn read(
    line: &Line,
    range: Range<usize>,
    cursor: &mut Cursor<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Vec<Heredoc>> {
    let mut found = Vec::new();
    for opening in heredoc::openings(line, range) {
        let start = cursor.at;
        match heredoc::read_body(cursor.text, start, opening) {
            Ok((heredoc, next)) => {
                cursor.at = next;
                found.push(heredoc);
            }
            Err(opening) => {
                cursor.at = cursor.text.len();
                problems.push(unterminated(cursor.text, start, &opening));
                return None;
            }
        }
        check_lengths(cursor, start, problems);
    }
    Some(found)
}

fn check_lengths(cursor: &Cursor<'_>, from: usize, problems: &mut Vec<Diagnostic>) {
    let mut at = from;
    while let Some(line) = physical(cursor.text, at).filter(|line| cursor.limited && line.start < cursor.at) {
        if line.is_too_long() {
            problems.push(too_long(line.span()));
        }
        at = line.next;
    }
}

/// The problem of a body without an end; points at a line that was probably meant to end it.
fn unterminated(text: &str, body: usize, opening: &heredoc::Opening) -> Diagnostic {
    let name = opening.name.as_str();
    let problem = Diagnostic::error(opening.span, format!("unterminated heredoc: no line is exactly `{name}`"));
    let mut at = body;
    while let Some(line) = physical(text, at) {
        at = line.next;
        let bare = line.text.trim();
        let (fits, why) = if line.text.trim_start_matches('\t') == name && !opening.chomp {
            (true, "it has tabs before it, which only <<- takes away")
        } else if bare == name {
            (true, "it has blanks around it")
        } else {
            (bare.eq_ignore_ascii_case(name) && !bare.is_empty(), "it is written in another case")
        };
        if fits {
            let start = line.start + line.indent();
            return problem.also(Span::new(start, start + bare.len()), format!("not the end: {why}"));
        }
    }
    problem.hint(format!("end the text with a line that holds only `{name}`"))
}
