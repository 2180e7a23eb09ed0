//! Paths inside an image, as text. No I/O.

/// Joins `path` to `base`, unless `path` is absolute. The result is clean, has no trailing slash and stays below `/`.
pub(super) fn join(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The working directory after `WORKDIR path` in `current`. An absolute path is kept as written, as in BuildKit's
/// config: `/a/`, `/a/.`, `//` (N-24).
pub(super) fn workdir(current: &str, path: &str) -> String {
    match path {
        "" if !current.is_empty() => current.to_owned(),
        _ if path.starts_with('/') => path.to_owned(),
        _ => join(current, path),
    }
}

/// Whether a destination is written as a directory: empty or `.` (the working directory), or ending in a slash, `/.` or
/// `/..` (C-5).
pub(super) fn is_written_as_directory(path: &str) -> bool {
    path.is_empty() || path == "." || path == ".." || ["/", "/.", "/.."].iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_cleans_paths() {
        // I-7
        for (base, path, want) in [
            ("/", "a", "/a"),
            ("/a", "b/", "/a/b"),
            ("/a", "/b//c/.", "/b/c"),
            ("/a", "../..", "/"),
            ("", "", "/"),
            ("/a", "~", "/a/~"),
            ("/a", "x y", "/a/x y"),
        ] {
            assert_eq!(join(base, path), want, "{base:?} {path:?}");
        }
    }

    #[test]
    fn workdir_keeps_absolute_paths_as_written() {
        // N-24
        for (current, path, want) in [
            ("/", "/a/", "/a/"),
            ("/x", "/a/.", "/a/."),
            ("/x", "//", "//"),
            ("/x", "/a//b/../c", "/a//b/../c"),
            ("/a/", "b/", "/a/b"),
            ("/a/.", ".", "/a"),
            ("//", "..", "/"),
            ("/a/", "", "/a/"),
            ("", "", "/"),
            ("", "a", "/a"),
        ] {
            assert_eq!(workdir(current, path), want, "{current:?} {path:?}");
        }
    }

    #[test]
    fn is_written_as_directory_follows_spelling() {
        // C-5
        for dir in ["", ".", "./", "a/", "/", "a/.", ".."] {
            assert!(is_written_as_directory(dir), "{dir:?}");
        }
        for file in ["a", "/a", "a.", ".a", "a/..b"] {
            assert!(!is_written_as_directory(file), "{file:?}");
        }
    }
}
