//! `# syntax=`, `# escape=` and `# check=` at the top of the file (P-12…P-15).

use super::ast::{Directives, Dockerfile, Escape};
use super::diagnostic::Diagnostic;
use super::line::{Physical, physical};
use super::source::{Source, Span, Spanned};
use super::word::Word;

/// Reads the directives; the second value is where they end, which is at the first line that is not a known directive.
pub(super) fn read(source: &Source, problems: &mut Vec<Diagnostic>) -> (Directives, usize) {
    let mut directives = Directives::default();
    let text = source.text();
    let mut at = 0;
    // After a shebang only `syntax` and `check` are directives.
    let shebang = text.starts_with("#!");
    if shebang {
        at = physical(text, 0).map_or(0, |line| line.next);
    }
    let mut first: [Option<Span>; 3] = [None; 3];
    while let Some(line) = physical(text, at) {
        let Some(found) = directive(&line, '#') else { break };
        at = line.next;
        let Found { slot, value } = found;
        if let Some(before) = first[slot] {
            let message = format!("only one {} directive can be used", NAMES[slot]);
            problems.push(Diagnostic::error(line.span(), message).also(before, "first given here"));
            continue;
        }
        first[slot] = Some(line.span());
        match slot {
            0 => directives.syntax = Some(value),
            1 if shebang => {}
            1 => match value.text.as_str() {
                "\\" => directives.escape = Some(Spanned::new(Escape::Backslash, value.span)),
                "`" => directives.escape = Some(Spanned::new(Escape::Backtick, value.span)),
                other => problems
                    .push(Diagnostic::error(value.span, format!("invalid escape character `{other}`, want \\ or `"))),
            },
            // Text after a blank is a comment (`# check=skip=X // because`).
            _ => directives.check = Some(value.part(0..value.text.find(' ').unwrap_or(value.text.len()))),
        }
    }
    (directives, at)
}

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

struct Found {
    slot: usize,
    value: Word,
}

/// `MARK name = value`, if the name is known.
fn directive(line: &Physical<'_>, mark: char) -> Option<Found> {
    let indent = if mark == '#' { line.indent() } else { 0 };
    let rest = line.text[indent..].strip_prefix(mark)?;
    let rest = if mark == '/' { rest.strip_prefix('/')? } else { rest };
    let (slot, value) = named_value(rest)?;
    let start = line.start + line.text.len() - value.len();
    let value = value.trim_end();
    Some(Found { slot, value: Word::new(value, Span::new(start, start + value.len())) })
}

/// `name = value` of a directive: which one, and the value up to the end of `text`.
fn named_value(text: &str) -> Option<(usize, &str)> {
    let (name, value) = text.trim_start().split_once('=')?;
    let name = name.trim_end();
    let slot = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    let value = value.trim_start();
    (!value.is_empty()).then_some((slot, value))
}

/// The value of a comment `check=…`, up to its first blank.
pub(super) fn check_comment(comment: &Word) -> Option<Word> {
    let (slot, value) = named_value(&comment.text)?;
    let start = comment.text.len() - value.len();
    let length = value.find(' ').unwrap_or(value.trim_end().len());
    (NAMES[slot] == "check").then(|| comment.part(start..start + length))
}

/// Which frontend a file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Syntax {
    /// None, or one that this parser implements.
    Known,
    /// `docker/dockerfile` of a version that may have features that this parser does not have.
    Newer {
        /// The image.
        image: String,
        /// The version it names.
        version: (u64, u64),
    },
    /// Another frontend: the file may not be a Dockerfile.
    Foreign {
        /// The image.
        image: String,
    },
}

/// The newest `docker/dockerfile` version that this parser implements.
const FRONTEND: (u64, u64) = (1, 26);

/// Reads an image name as given in `# syntax=` or `BUILDKIT_SYNTAX`.
fn syntax(image: &str) -> Syntax {
    let image = image.split_whitespace().next().unwrap_or("");
    if image.is_empty() || image == "dockerfile.v0" {
        return Syntax::Known;
    }
    let foreign = Syntax::Foreign { image: image.to_owned() };
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A slash may follow a port, but not a tag.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "1"),
    };
    // Mirrors keep the path: mirror.gcr.io/docker/dockerfile, proxy.example:5000/hub/docker/dockerfile (N-39).
    let is_ours = |ours: &str| name.strip_suffix(ours).is_some_and(|host| host.is_empty() || host.ends_with('/'));
    if !is_ours("docker/dockerfile") && !is_ours("docker/dockerfile-upstream") {
        return foreign;
    }
    let tag = tag.split('-').next().unwrap_or(tag);
    let mut parts = tag.split('.').map(|part| part.parse::<u64>());
    let version = match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        (Some(Ok(major)), None) => (major, 0),
        // `latest`, `master`, `labs`: whatever is newest.
        _ => return Syntax::Known,
    };
    if version > FRONTEND { Syntax::Newer { image: image.to_owned(), version } } else { Syntax::Known }
}

/// Checks the frontend of the file; `instead` is `BUILDKIT_SYNTAX` and replaces the directive. Ok: this parser can
/// read the file, perhaps with a warning. Err: the file needs another frontend (P-12).
pub(crate) fn check_syntax(file: &Dockerfile, instead: Option<&str>) -> Result<Option<Diagnostic>, Box<Diagnostic>> {
    let (image, span) = match (instead, &file.directives.syntax) {
        (Some(image), written) => (image, written.as_ref().map_or(Span::default(), |w| w.span)),
        (None, Some(written)) => (written.text.as_str(), written.span),
        (None, None) => return Ok(None),
    };
    match syntax(image) {
        Syntax::Known => Ok(None),
        Syntax::Newer { image, version: (major, minor) } => {
            let (known_major, known_minor) = FRONTEND;
            let message = format!("{image} may use features that are not known here");
            let note = format!("known are those up to {known_major}.{known_minor}, the file asks for {major}.{minor}");
            Ok(Some(Diagnostic { severity: super::Severity::Warning, ..Diagnostic::error(span, message) }.note(note)))
        }
        Syntax::Foreign { image } => {
            let hint = "set the build argument BUILDKIT_SYNTAX=docker/dockerfile:1 to read it as a Dockerfile anyway";
            Err(Box::new(foreign(span, &image).hint(hint)))
        }
    }
}

fn foreign(span: Span, image: &str) -> Diagnostic {
    Diagnostic::error(span, format!("the file asks for another frontend: {image}"))
        .note("only docker/dockerfile is built in; reading the file with it could build something else")
}

/// The problem of a file in another format that names its frontend as `// syntax=x` or `{"syntax": "x"}`.
pub(super) fn foreign_file(source: &Source) -> Option<Diagnostic> {
    let text = source.text();
    let first = physical(text, 0)?;
    if first.text.starts_with("//") {
        let found = directive(&first, '/').filter(|found| found.slot == 0)?;
        return is_foreign(&found.value.text).then(|| foreign(found.value.span, &found.value.text));
    }
    if text.trim_start().starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let image = value.get("syntax")?.as_str()?;
        let start = text.find('{').unwrap_or(0);
        return is_foreign(image).then(|| foreign(Span::new(start, start + 1), image));
    }
    None
}

fn is_foreign(image: &str) -> bool {
    matches!(syntax(image), Syntax::Foreign { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_depends_on_name_and_version_p_12() {
        for known in [
            "docker/dockerfile:1",
            "docker/dockerfile:1.7",
            "docker/dockerfile:1.7.0-labs",
            "docker/dockerfile:labs",
            "docker.io/docker/dockerfile:1.4",
            "docker/dockerfile",
            "docker/dockerfile:1@sha256:0000",
            "docker/dockerfile-upstream:master",
            "dockerfile.v0",
            "docker/dockerfile:1 with words",
            "mirror.gcr.io/docker/dockerfile:1",
            "mirror.gcr.io/docker/dockerfile",
            "ghcr.io/docker/dockerfile:1",
            "registry.example:5000/docker/dockerfile:1.7-labs@sha256:0000",
            "registry.example:5000/docker/dockerfile",
            "localhost:5000/hub/docker/dockerfile-upstream:master",
            "public.ecr.aws/docker/dockerfile:1.4",
        ] {
            assert_eq!(syntax(known), Syntax::Known, "{known}");
        }
        assert!(matches!(syntax("docker/dockerfile:1.99"), Syntax::Newer { version: (1, 99), .. }));
        assert!(matches!(syntax("docker/dockerfile:2"), Syntax::Newer { .. }));
        assert!(matches!(syntax("mirror.example:1/docker/dockerfile:1.99-labs"), Syntax::Newer { .. }));
        for other in [
            "tonistiigi/foo",
            "ghcr.io/mydocker/dockerfile:1",
            "docker/dockerfiles:1",
            "a/dockerfile",
            "xdocker/dockerfile",
        ] {
            assert!(matches!(syntax(other), Syntax::Foreign { .. }), "{other}");
        }
    }
}
