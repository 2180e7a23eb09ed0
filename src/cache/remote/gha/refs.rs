//! Which branches a token can read, and the keys of their entries.
//!
//! The service keeps the entries of branches apart: a job writes those of its own branch, and reads those of the base and the
//! default branch, too. A lookup prefers its own branch however old an entry there is; with one key per branch, each can be
//! asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::base::stable::StableHasher;

use super::service::Key;

/// A part of the cache as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope(pub(super) String);

impl Scope {
    /// The key that those of all indexes of a branch begin with.
    pub(super) fn indexes(&self, branch: &str) -> Key {
        Key { key: format!("kiln-{}-index-", self.0), version: self.version("index", branch) }
    }

    /// The key of an index: no other one of its branch has the number.
    pub(super) fn index(&self, branch: &str, number: u64) -> Key {
        let Key { key, version } = self.indexes(branch);
        Key { key: format!("{key}{number:08}"), version }
    }

    /// The number of the index with this key.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        key.strip_prefix(&self.indexes("").key)?.parse().ok()
    }

    /// The key of a pack, which an index names.
    pub(super) fn pack(&self, id: &str) -> Key {
        Key { key: format!("kiln-{}-pack-{id}", self.0), version: self.version("pack", "") }
    }

    /// Tells apart what must not be found by each other's keys: kinds, formats, scopes, branches.
    fn version(&self, kind: &str, branch: &str) -> String {
        let mut hasher = StableHasher::new("kiln.gha.v1");
        hasher.field("kind", kind.as_bytes()).field("scope", self.0.as_bytes()).field("branch", branch.as_bytes());
        hasher.finish().hex()
    }
}

/// One right that a token gives.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Right {
    scope: String,
    #[serde(default)]
    permission: u32,
}

const WRITE: u32 = 2;

/// The branches whose entries a token can read, its own first. One without a name, if the token does not say.
pub(super) fn branches(token: &str) -> Vec<String> {
    let mut rights = rights(token).unwrap_or_default();
    rights.sort_by_key(|right| right.permission & WRITE == 0);
    let mut names: Vec<String> = rights.into_iter().map(|right| right.scope).collect();
    names.dedup();
    names.truncate(MAX_BRANCHES);
    if names.is_empty() { vec![String::new()] } else { names }
}

/// The most branches that are asked: each costs requests.
const MAX_BRANCHES: usize = 4;

fn rights(token: &str) -> Option<Vec<Right>> {
    #[derive(Deserialize)]
    struct Claims {
        ac: String,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    serde_json::from_str(&claims.ac).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn own_branch_of_a_token_comes_first() {
        let ac =
            r#"[{\"Scope\":\"refs/heads/main\",\"Permission\":1},{\"Scope\":\"refs/pull/7/merge\",\"Permission\":3}]"#;
        let pull = token(&format!(r#"{{"exp":1,"ac":"{ac}"}}"#));
        assert_eq!(branches(&pull), ["refs/pull/7/merge", "refs/heads/main"]);
        for other in ["opaque", "a.b.c", &token("{}"), &token(r#"{"ac":"no list"}"#), &token(r#"{"ac":"[]"}"#)] {
            assert_eq!(branches(other), [""], "{other}");
        }
    }

    #[test]
    fn keys_tell_scopes_branches_and_kinds_apart() {
        let (app, other) = (Scope("app".to_owned()), Scope("app-index".to_owned()));
        assert_eq!(app.number(&app.index("main", 7).key), Some(7));
        assert_eq!(app.number("kiln-app-index-x"), None);
        let versions = [
            app.indexes("main").version,
            app.indexes("").version,
            other.indexes("main").version,
            app.pack("x").version,
            other.pack("x").version,
        ];
        assert!(versions.iter().all(|version| version.len() == 64));
        assert_eq!(versions.iter().collect::<std::collections::BTreeSet<_>>().len(), versions.len());
    }
}
