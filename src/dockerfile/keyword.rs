//! The table of instructions and the flags each accepts.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing, `true` or `false`.
    Bool,
    /// One value.
    Text,
    /// One value each time it is given.
    List,
}

/// A flag that an instruction accepts.
pub(super) type Known = (&'static str, Kind);

/// An instruction's name and its flags.
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

/// Whether `word` is an instruction, in upper or lower case.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|(known, _)| known.eq_ignore_ascii_case(word))
}

/// The instruction that has a flag which `not` does not have.
pub(super) fn owner(flag: &str, not: &str) -> Option<&'static str> {
    let knows = |(name, flags): &&Keyword| *name != not && flags.iter().any(|(known, _)| *known == flag);
    KEYWORDS.iter().find(knows).map(|(name, _)| *name)
}
