//! The parts of a repository's URL (C-25).

use crate::base::url::redacted;

use super::error::FetchError;

/// A repository's URL, and what BuildKit's fragment and query keys select.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitUrl {
    /// The URL that git fetches from.
    pub remote: String,
    /// Branch, tag or commit; the remote's default branch if absent.
    pub reference: Option<String>,
    /// The subdirectory to use; empty = all of the checkout.
    pub subdir: String,
    /// The beginning of the commit's id.
    pub checksum: Option<String>,
    /// Whether to keep `.git`.
    pub keep_git_dir: Option<bool>,
    /// Fetch submodules.
    pub submodules: bool,
    /// Fetch the commit that `checksum` names, whatever the ref is.
    pub fetch_by_commit: bool,
    /// Files get the time of the checkout instead of that of the commit.
    pub new_files: bool,
}

impl GitUrl {
    /// Reads `URL[#ref[:subdir]]` and the query keys of BuildKit.
    pub(crate) fn parse(text: &str) -> Result<Self, FetchError> {
        let bad = |why: &str| FetchError::Url { url: redacted(text), why: why.to_owned() };
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) if remote.contains("://") => (remote, query),
            _ => (rest, ""),
        };
        let mut url = GitUrl { remote: remote.to_owned(), submodules: true, ..GitUrl::default() };
        if !fragment.is_empty() {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            url.reference = Some(reference.to_owned()).filter(|r| !r.is_empty());
            url.subdir = subdir.to_owned();
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let flag = || match value {
                "" | "1" | "true" => Ok(true),
                "0" | "false" => Ok(false),
                _ => Err(bad("want true or false in the query")),
            };
            match key {
                "ref" | "branch" | "tag" => {
                    let prefix = match key {
                        "branch" => "refs/heads/",
                        "tag" => "refs/tags/",
                        _ => "",
                    };
                    let value = format!("{prefix}{}", value.strip_prefix(prefix).unwrap_or(value));
                    if url.reference.as_ref().is_some_and(|r| *r != value) {
                        return Err(bad("two different refs"));
                    }
                    url.reference = Some(value);
                }
                "subdir" if url.subdir.is_empty() || url.subdir == value => value.clone_into(&mut url.subdir),
                "subdir" => return Err(bad("two different subdirs")),
                "checksum" | "commit" if url.checksum.as_ref().is_none_or(|sum| sum == value) => {
                    url.checksum = Some(value.to_owned());
                }
                "checksum" | "commit" => return Err(bad("two different checksums")),
                "keep-git-dir" => url.keep_git_dir = Some(flag()?),
                "submodules" => url.submodules = flag()?,
                "fetch-by-commit" => url.fetch_by_commit = flag()?,
                "mtime" if matches!(value, "commit" | "checkout") => url.new_files = value == "checkout",
                "mtime" => return Err(bad("mtime is commit or checkout")),
                _ => return Err(bad("unknown key in the query")),
            }
        }
        url.check().map_err(|why| bad(&why))?;
        Ok(url)
    }

    /// Whether ssh is used.
    pub(crate) fn is_ssh(&self) -> bool {
        self.remote.starts_with("ssh://") || !self.remote.contains("://") && !self.remote.starts_with('/')
    }

    /// Ok: git takes no part of the URL for an option or for a transport helper (S-10).
    fn check(&self) -> Result<(), String> {
        let plain = |s: &str| !s.starts_with('-') && !s.bytes().any(|b| b.is_ascii_control());
        if self.remote.is_empty() || !plain(&self.remote) || self.remote.contains("::") {
            return Err("not a repository's address".into());
        }
        let host = self.remote.split_once("://").map_or(self.remote.as_str(), |(_, rest)| rest);
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.starts_with('-') {
            return Err("not a host's name".into());
        }
        if let Some(reference) = &self.reference {
            let good = reference.bytes().all(|b| b.is_ascii_graphic() && !b"~^:?*[\\".contains(&b));
            if !plain(reference) || !good || reference.contains("..") {
                return Err(format!("not a ref: {reference:?}"));
            }
        }
        if self.fetch_by_commit && !self.checksum.as_deref().is_some_and(is_commit) {
            return Err("fetch-by-commit needs a checksum of 40 hexadecimal digits".into());
        }
        match &self.checksum {
            Some(sum) if sum.len() < 7 || sum.len() > 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Err("a commit's checksum has 7 to 64 hexadecimal digits".into())
            }
            _ => Ok(()),
        }
    }
}

/// Whether `text` is a full commit id.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

/// Whether `text` may be the beginning of a commit id.
pub(super) fn is_hex(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|b| b.is_ascii_hexdigit())
}
