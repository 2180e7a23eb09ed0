//! The instructions and their flags; what to say about a word that is none.

use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::flags::{Kind, Known};
use crate::dockerfile::line::Line;
use crate::dockerfile::word::Word;

/// An instruction's name and the flags it knows.
pub(super) type Keyword = (&'static str, &'static [Known]);

const RUN: [Known; 4] =
    [("mount", Kind::List), ("network", Kind::Text), ("security", Kind::Text), ("device", Kind::List)];
const COPY: [Known; 6] = [
    ("from", Kind::Text),
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Bool),
    ("parents", Kind::Bool),
    ("exclude", Kind::List),
];
const ADD: [Known; 7] = [
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Bool),
    ("keep-git-dir", Kind::Bool),
    ("checksum", Kind::Text),
    ("unpack", Kind::Bool),
    ("exclude", Kind::List),
];
const HEALTHCHECK: [Known; 5] = [
    ("interval", Kind::Text),
    ("timeout", Kind::Text),
    ("start-period", Kind::Text),
    ("start-interval", Kind::Text),
    ("retries", Kind::Text),
];

/// All instructions.
pub(super) const KEYWORDS: [Keyword; 18] = [
    ("ADD", &ADD),
    ("ARG", &[]),
    ("CMD", &[]),
    ("COPY", &COPY),
    ("ENTRYPOINT", &[]),
    ("ENV", &[]),
    ("EXPOSE", &[]),
    ("FROM", &[("platform", Kind::Text)]),
    ("HEALTHCHECK", &HEALTHCHECK),
    ("LABEL", &[]),
    ("MAINTAINER", &[]),
    ("ONBUILD", &[]),
    ("RUN", &RUN),
    ("SHELL", &[]),
    ("STOPSIGNAL", &[]),
    ("USER", &[]),
    ("VOLUME", &[]),
    ("WORKDIR", &[]),
];

/// `word` is an instruction, in any case.
pub(in crate::dockerfile) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|(known, _)| known.eq_ignore_ascii_case(word))
}

/// What starts no instruction, but often a line that was meant to continue the one above.
const CONTINUES: [&str; 17] = ["&", "|", ";", ">", "<", "-", "+", "(", ")", "[", "]", "{", "}", "\"", "'", "$", ","];

/// The instruction that knows a flag which `not` does not know.
pub(in crate::dockerfile) fn owner(flag: &str, not: &str) -> Option<&'static str> {
    let knows = |(name, flags): &&Keyword| *name != not && flags.iter().any(|(known, _)| *known == flag);
    KEYWORDS.iter().find(knows).map(|(name, _)| *name)
}

/// A line that starts with a word which is no instruction. `text` is the whole source: the line above often explains it.
pub(super) fn unknown(line: &Line, word: &Word, text: &str, escape: char) -> Diagnostic {
    let shown: String = word.text.chars().take(40).collect();
    let mut problem = Diagnostic::error(word.span, format!("unknown instruction: {shown}"));
    let conflict = ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| word.text.starts_with(mark));
    if conflict {
        return problem.hint("this is the mark of a merge conflict: resolve it");
    }
    if let Some(blank) = word.text.chars().find(|c| !c.is_ascii() && (c.is_whitespace() || *c == '\u{200b}')) {
        let code = u32::from(blank);
        return problem.hint(format!("U+{code:04X} in it looks like a blank, but separates nothing: write a blank"));
    }
    if word.text.starts_with("//") || word.text.starts_with("/*") {
        return problem.hint("a comment starts with #");
    }
    problem = problem.suggest(&word.text.to_ascii_uppercase(), KEYWORDS.map(|(name, _)| name));
    if !problem.hints.is_empty() {
        return problem;
    }
    if let Some(hint) = above(text, word.span.start as usize, escape) {
        return problem.hint(hint);
    }
    if CONTINUES.iter().any(|start| word.text.starts_with(start)) && word.span.start > 0 {
        return problem.hint(format!("to continue the instruction above, end its line with `{escape}`"));
    }
    if line.text.contains("<<") {
        return problem.note("a heredoc may follow RUN, COPY and ADD only");
    }
    problem
}

/// What the line above says about why this one is not part of it.
fn above(text: &str, at: usize, escape: char) -> Option<String> {
    let start = text[..at].rfind('\n')?;
    let above = text[..start].rsplit('\n').next()?.trim_end();
    let commented = above.rfind('#').is_some_and(|hash| {
        let before = &above[..hash];
        before.ends_with([' ', '\t']) && before.trim_end().ends_with(escape)
    });
    if commented {
        return Some(format!(
            "`{escape}` continues a line only at its end: put the comment above on a line of its own"
        ));
    }
    if above.ends_with(escape) {
        return Some(format!("two `{escape}` are one that is escaped, and do not continue a line; one does"));
    }
    let open = ["&&", "||", "|", ";", ","].into_iter().find(|operator| above.ends_with(operator))?;
    Some(format!("the line above ends in `{open}`: end it with `{escape}` to continue it here"))
}
