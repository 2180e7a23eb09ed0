//! Image names: `[registry[:port]/]path[:tag][@digest]` (distribution-spec; Docker's normalisation, F-1, S-65).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::BlobDigest;

/// The registry of a name without one.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a name without tag and digest.
pub(crate) const DEFAULT_TAG: &str = "latest";

/// An image name. `Display` gives the full name, `familiar` the short one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// `library/debian`: lower-case, no empty components.
    pub repository: String,
    /// Present unless only a digest was given.
    pub tag: Option<String>,
    /// Takes precedence over the tag.
    pub digest: Option<BlobDigest>,
    /// How the name was written.
    pub spelling: Spelling,
}

/// How a name was written. Names are the same however they are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spelling {
    /// Without a registry.
    pub short: bool,
}

impl PartialEq for Spelling {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Spelling {}

impl PartialOrd for Spelling {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Spelling {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Spelling {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Text that is not an image name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid image name {text:?}: {why}")]
pub struct InvalidReference {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

impl Reference {
    /// The name without Docker Hub's defaults: `debian:12`.
    pub(crate) fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }

    /// Registry and repository: `docker.io/library/debian`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let fail = |why: &str| InvalidReference { text: text.to_owned(), why: why.to_owned() };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if text.len() > 1024 {
            return Err(fail("it is longer than 1024 bytes"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| fail("after @ want sha256: and 64 lower-case hex digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, path, short) = match rest.split_once('/') {
            Some((first, path)) if is_registry(first) => (first.to_owned(), path, false),
            _ => (DEFAULT_REGISTRY.to_owned(), rest, true),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { registry };
        check_registry(&registry).map_err(|why| fail(&why))?;
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (path, None),
        };
        check_path(path).map_err(|why| fail(&why))?;
        if let Some(tag) = &tag {
            check_tag(tag).map_err(|why| fail(&why))?;
        }
        let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        let tag = match (&tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            _ => tag,
        };
        Ok(Self { registry, repository, tag, digest, spelling: Spelling { short } })
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Docker's rule: the first component is a registry if it has a dot or colon, is `localhost`, or has upper-case letters.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or("the IPv6 address lacks its closing bracket")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("{host:?} is not an IPv6 address"));
            }
            (None, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("x") }))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    if let Some(port) = port
        && (port.is_empty() || port.parse::<u16>().is_err())
    {
        return Err(format!("{port:?} is not a port"));
    }
    if let Some(host) = host {
        let label = |l: &str| {
            !l.is_empty()
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if !host.split('.').all(label) {
            return Err(format!("{host:?} is not a host name"));
        }
    }
    Ok(())
}

/// Components are of lower-case letters and digits, separated by `.`, `_`, `__` or dashes.
fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("the repository is empty".to_owned());
    }
    if path.len() > 255 {
        return Err("the repository is longer than 255 bytes".to_owned());
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("repository names are lower-case".to_owned());
    }
    for component in path.split('/') {
        let ok = component.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        let edges = component.starts_with(|c: char| c.is_ascii_alphanumeric())
            && component.ends_with(|c: char| c.is_ascii_alphanumeric());
        let separators = component
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
        if !(ok && edges && separators) {
            return Err(format!("{component:?} is not a valid path component"));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let ok = !tag.is_empty()
        && tag.len() <= 128
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !tag.starts_with(['.', '-']);
    if ok {
        Ok(())
    } else {
        Err(format!("{tag:?} is not a tag: want up to 128 letters, digits, dots, dashes or underscores"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_f1_s65() {
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("foo/bar", "docker.io/foo/bar:latest"),
            ("localhost/bar", "localhost/bar:latest"),
            ("localhost:5000/bar:x", "localhost:5000/bar:x"),
            ("ghcr.io/a/b__c/d-e.f", "ghcr.io/a/b__c/d-e.f:latest"),
            ("[::1]:5000/bar", "[::1]:5000/bar:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().map(|r| r.to_string()), Ok(full.to_owned()));
        }
        let digest = format!("debian:12@{}", crate::base::digest::Sha256::of(b""));
        assert_eq!(digest.parse::<Reference>().map(|r| r.familiar()), Ok(digest.clone()));
        for bad in [
            "",
            "Debian",
            "foo/Bar",
            "a//b",
            "a/",
            "/a",
            "../a",
            "a/..",
            "a b",
            "a:",
            "a:b:c",
            "a@sha256:12",
            "host:port/x",
            "host:99999/x",
            "a:-x",
            "[::1/x",
            "-a.com/x",
            "a..b",
            "a\u{430}",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
    }
}
