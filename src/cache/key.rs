//! Turns what determines a step into its key, and the difference between two lists of parts into the reason for a miss.
//!
//! | input | part |
//! | --- | --- |
//! | key format, meaning of instructions | the hash domain |
//! | the instruction, expanded and canonical | `the instruction`, for a RUN `the command` |
//! | platform of a RUN | `platform` |
//! | parent step | `parent`: its key, or the digest of its chain of diff-ids |
//! | each variable that a RUN sees | `variable NAME`, `build argument NAME` |
//! | user, directory, host name, network, security, mounts, devices, heredocs | one part each |
//! | files it reads | `files …`: a digest over path, kind, mode, ids, link, xattrs, content |
//!
//! **Never in a key.** Spans, display names and stage names (moving a line rebuilds nothing); mtimes, inodes and
//! absolute paths (a checkout may move); secret values and proxy variables (A-6, S-117); `--jobs`, progress and
//! compression (they change no file in the result).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::digest::{Sha256, StepKey};
use crate::base::stable::StableHasher;

use super::listing::FileChanges;

/// Change it whenever the same instruction may give a different result than before.
const DOMAIN: &str = "kiln.step.v1";

/// Parts that only one kind of instruction has: RUN, COPY and ADD, WORKDIR.
const KINDS: [&str; 3] = ["the command", "the instruction", "the directory"];

/// One input that determines a step's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// What it is, in words for users: `build argument VERSION`.
    pub name: String,
    /// Digest of its value, 64 hexadecimal digits.
    pub digest: String,
}

/// Everything that determines a step's result, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyParts(Vec<Part>);

/// Why a step had to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// This instruction was not built before.
    NoRecord {
        /// Shared caches that were asked and do not have it.
        absent: Vec<String>,
    },
    /// This part had another value.
    Changed {
        /// [`Part::name`].
        part: String,
        /// For files: which differ, if that is known.
        files: Option<FileChanges>,
    },
    /// There was another kind of instruction at this place.
    Replaced,
    /// This part did not exist.
    Added(String),
    /// This part no longer exists.
    Removed(String),
    /// Only the parent step changed.
    Parent,
    /// The stored result is too old.
    Old {
        /// How old it is, if that is known.
        age: Option<Duration>,
        /// How old it may be.
        limit: Duration,
    },
    /// The cache is disabled for this step.
    Disabled,
    /// No part changed, but the stored result is missing.
    Lost,
}

impl KeyParts {
    /// No parts yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a part by its value.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: &[u8]) -> &mut Self {
        self.add_digest(name, Sha256::of(value))
    }

    /// Adds a part whose digest is known.
    pub(crate) fn add_digest(&mut self, name: impl Into<String>, digest: Sha256) -> &mut Self {
        self.0.push(Part { name: name.into(), digest: digest.hex() });
        self
    }

    /// A copy in which the part `with` of this digest replaces the part `name`, if there is one.
    pub(crate) fn replace(&self, name: &str, with: &str, digest: Sha256) -> KeyParts {
        let replaced = |part: &Part| match part.name == name {
            true => Part { name: with.to_owned(), digest: digest.hex() },
            false => part.clone(),
        };
        KeyParts(self.0.iter().map(replaced).collect())
    }

    /// The key of a step with these parts.
    pub(crate) fn key(&self) -> StepKey {
        let mut hasher = StableHasher::new(DOMAIN);
        for part in &self.0 {
            hasher.field(&part.name, part.digest.as_bytes());
        }
        StepKey(hasher.finish())
    }

    /// Why a step with these parts missed, given the parts of the same instruction in the previous build: all reasons, at least
    /// one. The parent comes last: a change in the step itself explains more than a change above it.
    pub(crate) fn explain(&self, before: &KeyParts) -> Vec<Miss> {
        if self.kind() != before.kind() {
            return vec![Miss::Replaced];
        }
        let (mut reasons, mut parent) = (Vec::new(), false);
        for (at, part) in self.0.iter().enumerate() {
            match before.counterpart(self, at) {
                Some(was) if was.digest == part.digest => {}
                Some(_) if part.name == "parent" => parent = true,
                Some(_) => reasons.push(Miss::Changed { part: part.name.clone(), files: None }),
                None => reasons.push(Miss::Added(part.name.clone())),
            }
        }
        let gone = before.0.iter().enumerate().filter(|(at, _)| self.counterpart(before, *at).is_none());
        reasons.extend(gone.map(|(_, part)| Miss::Removed(part.name.clone())));
        if parent {
            reasons.push(Miss::Parent);
        }
        if reasons.is_empty() {
            reasons.push(Miss::Lost);
        }
        reasons
    }

    /// The part that tells kinds of instructions apart.
    fn kind(&self) -> Option<&str> {
        self.0.iter().map(|part| part.name.as_str()).find(|name| KINDS.contains(name))
    }

    /// The part that corresponds to part `at` of `other`: same name and, among parts of that name, same position.
    fn counterpart(&self, other: &KeyParts, at: usize) -> Option<&Part> {
        let name = &other.0[at].name;
        let earlier = other.0[..at].iter().filter(|part| part.name == *name).count();
        self.0.iter().filter(|part| part.name == *name).nth(earlier)
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Miss::NoRecord { absent } => {
                f.write_str("not built before")?;
                absent.iter().enumerate().try_for_each(|(at, cache)| match at {
                    0 => write!(f, ", and not in {cache}"),
                    _ => write!(f, " or {cache}"),
                })
            }
            Miss::Changed { part, files: None } => write!(f, "{part} changed"),
            Miss::Changed { part, files: Some(files) } => write!(f, "{part} changed: {files}"),
            Miss::Replaced => f.write_str("another instruction was at this place"),
            Miss::Added(part) => write!(f, "{part} was added"),
            Miss::Removed(part) => write!(f, "{part} was removed"),
            Miss::Parent => f.write_str("parent step changed"),
            Miss::Old { age: Some(age), limit } => {
                write!(f, "result is {} old (--max-age {})", rough(*age), rough(*limit))
            }
            Miss::Old { age: None, limit } => write!(f, "result is of unknown age (--max-age {})", rough(*limit)),
            Miss::Disabled => f.write_str("cache not used"),
            Miss::Lost => f.write_str("cached layer is missing"),
        }
    }
}

/// A duration in its two largest units, as options give it: `13h20m`.
fn rough(duration: Duration) -> String {
    let secs = duration.as_secs();
    let units = [(secs / 3600, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(2);
    let two = units.iter().skip(first).take(2).enumerate().filter(|(at, (count, _))| *at == 0 || *count > 0);
    two.map(|(_, (count, unit))| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_shown_in_two_units() {
        for (secs, want) in [(0, "0s"), (59, "59s"), (90, "1m30s"), (43_200, "12h"), (46_861, "13h1m"), (3_601, "1h")] {
            assert_eq!(rough(Duration::from_secs(secs)), want);
        }
        let old = |age| Miss::Old { age, limit: Duration::from_secs(43_200) }.to_string();
        assert_eq!(old(Some(Duration::from_secs(46_800))), "result is 13h old (--max-age 12h)");
        assert_eq!(old(None), "result is of unknown age (--max-age 12h)");
    }

    fn parts(list: &[(&str, &str)]) -> KeyParts {
        let mut parts = KeyParts::new();
        for (name, value) in list {
            parts.add(*name, value.as_bytes());
        }
        parts
    }

    #[test]
    fn miss_names_the_part_that_differs() {
        let was = parts(&[("parent", "p"), ("instruction", "RUN make"), ("build argument V", "1")]);
        let cases = [
            (
                parts(&[("parent", "p"), ("instruction", "RUN make"), ("build argument V", "2")]),
                "build argument V changed",
            ),
            (parts(&[("parent", "q"), ("instruction", "RUN make"), ("build argument V", "1")]), "parent step changed"),
            (
                parts(&[("parent", "q"), ("instruction", "RUN make all"), ("build argument V", "1")]),
                "instruction changed",
            ),
            (parts(&[("parent", "p"), ("instruction", "RUN make")]), "build argument V was removed"),
            (was.clone(), "cached layer is missing"),
        ];
        for (now, want) in cases {
            assert_eq!(now.explain(&was)[0].to_string(), want);
            assert_eq!(now == was, now.key() == was.key());
        }
    }

    #[test]
    fn all_parts_that_differ_are_reasons() {
        let was = parts(&[("parent", "p"), ("instruction", "RUN make"), ("build argument V", "1"), ("heredoc a", "x")]);
        let now = parts(&[("parent", "q"), ("instruction", "RUN all"), ("variable V", "1"), ("heredoc a", "x")]);
        let reasons: Vec<String> = now.explain(&was).iter().map(ToString::to_string).collect();
        let want =
            ["instruction changed", "variable V was added", "build argument V was removed", "parent step changed"];
        assert_eq!(reasons, want);
        let (run, copy) = (parts(&[("the command", "ls")]), parts(&[("the instruction", "ls"), ("files", "x")]));
        assert_eq!(run.explain(&copy), [Miss::Replaced]);
        let absent = ["registry a/b", "directory /c"].map(str::to_owned).to_vec();
        let text = Miss::NoRecord { absent }.to_string();
        assert_eq!(text, "not built before, and not in registry a/b or directory /c");
    }

    #[test]
    fn parts_with_one_name_are_compared_in_order() {
        let was = parts(&[("parent", "p"), ("mount /a", "1"), ("mount /a", "2")]);
        for (now, want) in [
            (parts(&[("parent", "q"), ("mount /a", "1"), ("mount /a", "2")]), "parent step changed"),
            (parts(&[("parent", "p"), ("mount /a", "1"), ("mount /a", "3")]), "mount /a changed"),
            (parts(&[("parent", "p"), ("mount /a", "1"), ("mount /a", "2"), ("mount /a", "2")]), "mount /a was added"),
            (parts(&[("parent", "p"), ("mount /a", "1")]), "mount /a was removed"),
        ] {
            assert_eq!(now.explain(&was)[0].to_string(), want);
        }
    }

    #[test]
    fn keys_differ_for_lists_that_concatenate_alike() {
        // S-136
        assert_ne!(parts(&[("a", "bc")]).key(), parts(&[("ab", "c")]).key());
        assert_ne!(parts(&[("a", ""), ("b", "")]).key(), parts(&[("b", ""), ("a", "")]).key());
    }
}
