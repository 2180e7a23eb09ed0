//! From what determines a step to its key, and from two keys to a reason.
//!
//! | value | part |
//! | --- | --- |
//! | key format, kiln's semantics | the hash domain |
//! | what the step is, its canonical expanded text | `the instruction`, of a RUN `the command` |
//! | platform, of a RUN | `platform` |
//! | what came before | `parent`: the parent's key, or the digest of its chain of diff-ids |
//! | each variable a RUN can see | `variable NAME`, `build argument NAME` |
//! | user, directory, host name, network, security, mounts, devices, heredocs | one part each |
//! | files it reads | `files …`: a digest over path, kind, mode, ids, link, xattrs, content |
//!
//! **Never in a key.** Spans, display names and stage names (moving a line rebuilds nothing); mtimes, inodes and
//! absolute paths (a checkout may move); secret values and proxy variables (A-6, S-117); `--jobs`, progress and
//! compression (they change no file of the result).

use serde::{Deserialize, Serialize};

use crate::base::digest::{Sha256, StepKey};
use crate::base::stable::StableHasher;

/// Changes whenever the same instruction may give another result than before.
const DOMAIN: &str = "kiln.step.v1";

/// One thing that determines a step's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is, as a person would say it: `build argument VERSION`.
    pub name: String,
    /// Digest of its value, 64 hexadecimal digits.
    pub digest: String,
}

/// Everything that determines a step's result, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts(Vec<Part>);

/// Why a step had to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing like it was built here before.
    NoRecord,
    /// It was built before, with another value of this part; `detail` names what differs inside it, if that is known.
    Changed {
        /// [`Part::name`].
        part: String,
        /// For files: the first path that differs.
        detail: Option<String>,
    },
    /// It was built before, without this part.
    Added(String),
    /// It was built before, with this part.
    Removed(String),
    /// What it builds on changed.
    Parent,
    /// The cache was not asked for this step.
    Disabled,
    /// Everything is as before, but the stored result is gone.
    Lost,
}

impl KeyParts {
    /// No parts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part by its value.
    pub fn add(&mut self, name: impl Into<String>, value: &[u8]) -> &mut Self {
        self.add_digest(name, Sha256::of(value))
    }

    /// Adds a part whose digest is known.
    pub fn add_digest(&mut self, name: impl Into<String>, digest: Sha256) -> &mut Self {
        self.0.push(Part { name: name.into(), digest: digest.hex() });
        self
    }

    /// The same parts with the part `name` replaced, if there is one.
    pub fn replace(&self, name: &str, with: &str, digest: Sha256) -> KeyParts {
        let replaced = |part: &Part| match part.name == name {
            true => Part { name: with.to_owned(), digest: digest.hex() },
            false => part.clone(),
        };
        KeyParts(self.0.iter().map(replaced).collect())
    }

    /// The key of a step with these parts.
    pub fn key(&self) -> StepKey {
        let mut hasher = StableHasher::new(DOMAIN);
        for part in &self.0 {
            hasher.field(&part.name, part.digest.as_bytes());
        }
        StepKey(hasher.finish())
    }

    /// Why a step with these parts missed, given the parts that the same place had last time.
    /// The parent comes last: a change of its own explains a step better than a change above it.
    pub fn explain(&self, before: &KeyParts) -> Miss {
        let mut parent = false;
        for (at, part) in self.0.iter().enumerate() {
            match before.counterpart(self, at) {
                Some(was) if was.digest == part.digest => {}
                Some(_) if part.name == "parent" => parent = true,
                Some(_) => return Miss::Changed { part: part.name.clone(), detail: None },
                None => return Miss::Added(part.name.clone()),
            }
        }
        for (at, part) in before.0.iter().enumerate() {
            if self.counterpart(before, at).is_none() {
                return Miss::Removed(part.name.clone());
            }
        }
        if parent { Miss::Parent } else { Miss::Lost }
    }

    /// The part that is to these parts what part `at` is to `other`. Several parts may have one name: the second
    /// corresponds to the second.
    fn counterpart(&self, other: &KeyParts, at: usize) -> Option<&Part> {
        let name = &other.0[at].name;
        let earlier = other.0[..at].iter().filter(|part| part.name == *name).count();
        self.0.iter().filter(|part| part.name == *name).nth(earlier)
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Miss::NoRecord => f.write_str("not built before"),
            Miss::Changed { part, detail: None } => write!(f, "{part} changed"),
            Miss::Changed { part, detail: Some(detail) } => write!(f, "{part} changed: {detail}"),
            Miss::Added(part) => write!(f, "{part} is new"),
            Miss::Removed(part) => write!(f, "{part} is gone"),
            Miss::Parent => f.write_str("what it builds on changed"),
            Miss::Disabled => f.write_str("cache not used"),
            Miss::Lost => f.write_str("its stored result is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, &str)]) -> KeyParts {
        let mut parts = KeyParts::new();
        for (name, value) in list {
            parts.add(*name, value.as_bytes());
        }
        parts
    }

    #[test]
    fn a_miss_names_the_part_that_differs() {
        let was = parts(&[("parent", "p"), ("instruction", "RUN make"), ("build argument V", "1")]);
        let cases = [
            (
                parts(&[("parent", "p"), ("instruction", "RUN make"), ("build argument V", "2")]),
                "build argument V changed",
            ),
            (
                parts(&[("parent", "q"), ("instruction", "RUN make"), ("build argument V", "1")]),
                "what it builds on changed",
            ),
            (
                parts(&[("parent", "q"), ("instruction", "RUN make all"), ("build argument V", "1")]),
                "instruction changed",
            ),
            (parts(&[("parent", "p"), ("instruction", "RUN make")]), "build argument V is gone"),
            (was.clone(), "its stored result is gone"),
        ];
        for (now, want) in cases {
            assert_eq!(now.explain(&was).to_string(), want);
            assert_eq!(now == was, now.key() == was.key());
        }
    }

    #[test]
    fn parts_of_one_name_are_compared_in_order() {
        let was = parts(&[("parent", "p"), ("mount /a", "1"), ("mount /a", "2")]);
        for (now, want) in [
            (parts(&[("parent", "q"), ("mount /a", "1"), ("mount /a", "2")]), "what it builds on changed"),
            (parts(&[("parent", "p"), ("mount /a", "1"), ("mount /a", "3")]), "mount /a changed"),
            (parts(&[("parent", "p"), ("mount /a", "1"), ("mount /a", "2"), ("mount /a", "2")]), "mount /a is new"),
            (parts(&[("parent", "p"), ("mount /a", "1")]), "mount /a is gone"),
        ] {
            assert_eq!(now.explain(&was).to_string(), want);
        }
    }

    #[test]
    fn ambiguous_lists_have_different_keys_s136() {
        assert_ne!(parts(&[("a", "bc")]).key(), parts(&[("ab", "c")]).key());
        assert_ne!(parts(&[("a", ""), ("b", "")]).key(), parts(&[("b", ""), ("a", "")]).key());
    }
}
