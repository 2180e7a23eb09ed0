//! Diagnostics as text: message, place, the line with carets under the bytes at fault, help.
//!
//! **Holds.** The only module that uses the renderer (annotate-snippets). Text from the file is made safe for a terminal.
//! **Not here.** Finding problems: `dockerfile`, `plan`.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::sanitize;
use crate::dockerfile::{Diagnostic, Severity, Source, Span};

/// Most lines between two places of one diagnostic in one excerpt.
const REACH: usize = 200;

/// All diagnostics without colours, separated by empty lines.
pub fn render(source: &Source, diagnostics: &[Diagnostic]) -> String {
    render_with(source, diagnostics, false)
}

/// All diagnostics, separated by empty lines.
pub(crate) fn render_with(source: &Source, diagnostics: &[Diagnostic], colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(one(diagnostic.source.as_ref().unwrap_or(source), diagnostic, &renderer).trim_end());
        out.push('\n');
    }
    // Removes trailing spaces of the gutter.
    out.split_inclusive('\n').fold(String::new(), |mut text, line| {
        let body = line.trim_end_matches([' ', '\n']);
        let _ = writeln!(text, "{body}");
        text
    })
}

/// A diagnostic as a JSON object.
pub(crate) fn json(source: &Source, diagnostic: &Diagnostic) -> serde_json::Value {
    let source = diagnostic.source.as_ref().unwrap_or(source);
    let at = |offset: u32| {
        let position = source.position(offset);
        serde_json::json!({ "line": position.line, "column": position.column })
    };
    let range = |span: Span| serde_json::json!({ "start": at(span.start), "end": at(span.end) });
    let labels = diagnostic.labels.iter().map(|l| serde_json::json!({ "text": l.text, "range": range(l.span) }));
    serde_json::json!({
        "event": "diagnostic",
        "severity": diagnostic.severity.as_str(),
        "rule": diagnostic.code,
        "message": diagnostic.message,
        "file": source.name(),
        "range": range(diagnostic.span),
        "label": diagnostic.label,
        "labels": labels.collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "hints": diagnostic.hints,
    })
}

/// `Dockerfile:3:5`.
fn place(source: &Source, span: Span) -> String {
    let position = source.position(span.start);
    format!("{}:{}:{}", sanitize::text(source.name()), position.line, position.column)
}

fn one(source: &Source, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut title = level.primary_title(sanitize::text(&diagnostic.message));
    if let Some(code) = diagnostic.code {
        title = title.id(code);
    }
    let mut group = Group::with_title(title);
    if diagnostic.span == Span::default() && !source.text().is_empty() {
        return about_command_line(group, diagnostic, renderer);
    }
    let first = source.position(diagnostic.span.start).line;
    let near = |span: Span| source.position(span.start).line.abs_diff(first) <= REACH;
    let (near, far): (Vec<_>, Vec<_>) = diagnostic.labels.iter().partition(|label| near(label.span));
    let window = Window::new(source, std::iter::once(diagnostic.span).chain(near.iter().map(|label| label.span)));
    if window.text.is_empty() {
        let column = source.position(diagnostic.span.start).column;
        group = group.element(Origin::path(sanitize::text(source.name())).line(first).char_column(column));
    } else {
        let mut primary = AnnotationKind::Primary.span(window.map(source, diagnostic.span));
        if let Some(label) = &diagnostic.label {
            primary = primary.label(sanitize::text(label));
        }
        let snippet = Snippet::source(window.text.as_str()).line_start(window.line).path(sanitize::text(source.name()));
        let further = near.iter().map(|label| {
            AnnotationKind::Context.span(window.map(source, label.span)).label(sanitize::text(&label.text))
        });
        group = group.element(snippet.annotation(primary).annotations(further));
    }
    for label in far {
        group = group.element(Level::NOTE.message(format!("{}: {}", place(source, label.span), label.text)));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(sanitize::text(note)));
    }
    for hint in &diagnostic.hints {
        group = group.element(Level::HELP.message(sanitize::text(hint)));
    }
    renderer.render(&[group])
}

/// A diagnostic about the command line, in the form of other errors.
fn about_command_line(title: Group<'_>, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let hint = Level::HELP.with_name("hint");
    let notes = diagnostic.notes.iter().map(|note| Level::NOTE.primary_title(sanitize::text(note)));
    let hints = diagnostic.hints.iter().map(|text| hint.clone().primary_title(sanitize::text(text)));
    let more = notes.chain(hints).map(Group::with_title);
    std::iter::once(title).chain(more).map(|group| renderer.render(&[group]) + "\n").collect()
}

/// The lines of an excerpt, made safe.
struct Window {
    text: String,
    /// Number of the first line.
    line: usize,
    /// Offset of the first line in the source.
    start: usize,
}

impl Window {
    fn new(source: &Source, spans: impl Iterator<Item = Span>) -> Self {
        let text = source.text();
        let (mut from, mut to) = (text.len(), 0);
        for span in spans {
            let start = (span.start as usize).min(text.len());
            from = from.min(text[..floor(text, start)].rfind('\n').map_or(0, |at| at + 1));
            to = to.max(line_end(text, start));
        }
        let line = source.position(offset(from)).line;
        Self { text: safe(&without_passwords(&text[from..to.max(from)])), line, start: from }
    }

    /// The part of `span` on its first line, in the window's text.
    fn map(&self, source: &Source, span: Span) -> std::ops::Range<usize> {
        let text = source.text();
        let start = floor(text, (span.start as usize).clamp(self.start, text.len()));
        let end = ceil(text, (span.end as usize).clamp(start, line_end(text, start)));
        let at = safe(&text[self.start..start]).len();
        at..at + safe(&text[start..end]).len()
    }
}

/// Replaces user names and passwords of URLs by `x` (C-31, S-6).
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).unwrap_or(after.len());
        let user = after[..end].rfind('@').unwrap_or(0);
        out.push_str(before);
        out.extend(after[..user].chars().map(|c| if c.is_ascii() { 'x' } else { c }));
        rest = &after[user..];
    }
    out + rest
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// The end of the line that `at` is on, without its line end.
fn line_end(text: &str, at: usize) -> usize {
    let at = floor(text, at);
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    at.max(text[..end].trim_end_matches('\r').len())
}

/// Replaces each control character by U+FFFD, so that columns stay the same. Line feeds and tabs stay.
fn safe(text: &str) -> String {
    let replace = |c: char| match c {
        '\n' | '\t' => c,
        c if sanitize::text(c.encode_utf8(&mut [0; 4])).len() != c.len_utf8() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn rendered(text: &str) -> String {
        let source = Source::new("Dockerfile", text);
        render(&source, &parse(&source).expect_err("the text is wrong"))
    }

    #[test]
    fn excerpt_marks_the_bytes_at_fault() {
        // P-22
        let want = "\
error: unknown instruction: CPOY
 --> Dockerfile:2:1
  |
2 | CPOY a b
  | ^^^^
  |
  = help: did you mean `COPY`?
";
        assert_eq!(rendered("FROM x\nCPOY a b\n"), want);
    }

    #[test]
    fn excerpt_escapes_control_characters() {
        let text = rendered("FROM x\nR\u{1b}[31mUN \u{202e}y\n");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }

    #[test]
    fn excerpt_of_empty_file_has_a_place() {
        assert!(rendered("").contains("Dockerfile:1"), "{}", rendered(""));
        assert!(rendered("ARG x").contains("Dockerfile:1:1"));
    }

    #[test]
    fn excerpt_renders_any_span() {
        let source = Source::new("Dockerfile", "FROM ä\r\nRUN x\r\n");
        for start in 0..20 {
            for end in 0..20 {
                let span = Span { start, end };
                let text = render(&source, &[Diagnostic::error(span, "x").also(Span { start: end, end: start }, "y")]);
                // The empty span at the start is no place: the command line is at fault.
                let placed = text.contains("--> Dockerfile:") || span == Span::default();
                assert!(text.starts_with("error: x\n") && placed, "{text}");
            }
        }
    }
}
