//! Distinguishes paths, URLs and git repositories among sources (C-22…C-25).

/// The kind of a COPY or ADD source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A path in the context or in what `--from` names.
    Path,
    /// `http://…` or `https://…`
    Http,
    /// `git://…`, `ssh://…`, `user@host:path`, `https://….git`
    Git,
}

/// Classifies `source` by its spelling alone.
pub(super) fn kind(source: &str) -> Kind {
    let (scheme, rest) = match source.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if is_scp_like(source) => return Kind::Git,
        None => return Kind::Path,
    };
    match scheme {
        "git" | "ssh" => Kind::Git,
        "http" | "https" => {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
            if path.ends_with(".git") { Kind::Git } else { Kind::Http }
        }
        _ => Kind::Path,
    }
}

/// `git@github.com:owner/name`
fn is_scp_like(source: &str) -> bool {
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    source
        .split_once('@')
        .and_then(|(user, rest)| rest.split_once(':').map(|(host, path)| (user, host, path)))
        .is_some_and(|(user, host, path)| plain(user) && plain(host) && !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_distinguishes_paths_urls_and_repositories() {
        // C-23, C-25
        for path in ["a", "/a", "github.com/a/b.git", "a@b", "file:///etc", "C:/x", "a b@c:d"] {
            assert_eq!(kind(path), Kind::Path, "{path}");
        }
        for http in ["http://h/x", "https://h", "https://h/x.git/y", "https://h/x?y=.git"] {
            assert_eq!(kind(http), Kind::Http, "{http}");
        }
        let git = ["git@h:o/r", "git://h/r", "ssh://git@h/r", "https://h/o/r.git", "https://h/r.git#main:sub"];
        for git in git {
            assert_eq!(kind(git), Kind::Git, "{git}");
        }
    }
}
