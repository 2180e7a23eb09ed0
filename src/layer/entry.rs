//! Entries: files of a layer, independent of tar, disk and tree.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::attributes::Attributes;
use crate::base::digest::ContentDigest;
use crate::base::time::Timestamp;

/// A path inside a layer: bytes, relative, no empty, `.` or `..` component, no NUL. The empty path is the root.
///
/// Ordered component by component: `a` < `a/b` < `a-b`, so a subtree is contiguous. Bytes are compared as bytes:
/// neither case nor Unicode form is folded (S-44).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// A path that no entry of a layer may have.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadPath {
    /// Its cleaned form leaves the root.
    #[error("path {0:?} leaves the root")]
    Escapes(String),
    /// It holds a NUL byte.
    #[error("path {0:?} holds a NUL byte")]
    Nul(String),
}

impl RelPath {
    /// The root directory.
    pub fn root() -> Self {
        Self::default()
    }

    /// Cleans `raw`: leading and repeated slashes and `.` go, `..` takes away the name before it. A path that would
    /// leave the root is an error, never clipped to another one (S-30).
    pub fn parse(raw: &[u8]) -> Result<Self, BadPath> {
        if is_clean(raw) {
            return Ok(Self(raw.into()));
        }
        if raw.contains(&0) {
            return Err(BadPath::Nul(shown(raw)));
        }
        let mut clean: Vec<u8> = Vec::with_capacity(raw.len());
        for part in raw.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." if clean.is_empty() => return Err(BadPath::Escapes(shown(raw))),
                b".." => clean.truncate(clean.iter().rposition(|&b| b == b'/').unwrap_or(0)),
                name => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name);
                }
            }
        }
        Ok(Self(clean.into()))
    }

    /// A path that is clean already, as [`crate::base::resolve`] gives it.
    pub fn from_clean(path: &[u8]) -> Self {
        debug_assert!(is_clean(path));
        Self(path.into())
    }

    /// The bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For system calls.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        name_of(&self.0)
    }

    /// The directory it is in; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        parent_of(&self.0).map(|p| Self(p.into()))
    }

    /// The bytes of [`parent`](Self::parent); empty for the root as well.
    pub(crate) fn dir_bytes(&self) -> &[u8] {
        parent_of(&self.0).unwrap_or_default()
    }

    /// `self/name`. `name` is one component, as a directory listing gives it.
    pub fn join(&self, name: &[u8]) -> RelPath {
        debug_assert!(is_clean(name) && !name.is_empty() && !name.contains(&b'/'));
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path.into())
    }

    /// `self/rest`.
    pub fn join_path(&self, rest: &RelPath) -> RelPath {
        match (self.is_root(), rest.is_root()) {
            (true, _) => rest.clone(),
            (_, true) => self.clone(),
            _ => Self([&self.0[..], b"/", &rest.0[..]].concat().into()),
        }
    }

    /// Whether it is `dir` or below it.
    pub fn is_within(&self, dir: &RelPath) -> bool {
        is_within(&self.0, &dir.0)
    }

    /// The components, first to last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|c| !c.is_empty())
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    /// `/a/b`; bytes that are not printable UTF-8 are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", shown(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", shown(&self.0))
    }
}

/// Component order: as byte order, with the slash below every other byte.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).find(|(x, y)| x != y) {
        Some((&x, &y)) => rank(x).cmp(&rank(y)),
        None => a.len().cmp(&b.len()),
    }
}

pub(super) fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || (path.starts_with(dir) && (path.len() == dir.len() || path[dir.len()] == b'/'))
}

pub(super) fn name_of(path: &[u8]) -> &[u8] {
    &path[path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1)..]
}

pub(super) fn parent_of(path: &[u8]) -> Option<&[u8]> {
    (!path.is_empty()).then(|| &path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)])
}

fn is_clean(path: &[u8]) -> bool {
    path.is_empty()
        || (!path.contains(&0) && path.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")))
}

/// Bytes as text for messages: valid UTF-8 stays, control characters and other bytes are escaped.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Mode, owner, time and attributes: everything about a file but its name and content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission, setuid, setgid and sticky bits (`07777`).
    pub mode: u32,
    /// The owner as the container sees it.
    pub uid: u32,
    /// The group as the container sees it.
    pub gid: u32,
    /// Modification time; layers keep whole seconds (C-13).
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Attributes,
}

impl Meta {
    /// Root-owned, epoch, no attributes.
    pub fn with_mode(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// What a path is, or what a layer does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// SHA-256 of its bytes, if known.
        content: Option<ContentDigest>,
    },
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points, byte for byte.
        target: Vec<u8>,
    },
    /// Another name of a file of the same layer. Its [`Meta`] repeats the file's.
    Hardlink {
        /// The file's first name; never itself a hard link.
        target: RelPath,
    },
    /// A character device.
    Char {
        /// Device number, upper part.
        major: u32,
        /// Device number, lower part.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Device number, upper part.
        major: u32,
        /// Device number, lower part.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The layer hides what lower layers have at this path (`.wh.<name>` in the tar).
    Whiteout,
    /// The layer hides everything that lower layers have below this directory (`.wh..wh..opq` in the tar). It stands
    /// beside the directory's own entry, directly after it.
    Opaque,
}

impl EntryKind {
    /// Whether it is a whiteout or an opaque marker.
    pub fn is_marker(&self) -> bool {
        matches!(self, EntryKind::Whiteout | EntryKind::Opaque)
    }
}

/// One path of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is. For a whiteout: the path it hides; for an opaque marker: the directory.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Its metadata; empty for markers.
    pub meta: Meta,
}

impl Entry {
    /// An entry with all its parts.
    pub fn new(path: RelPath, kind: EntryKind, meta: Meta) -> Self {
        Self { path, kind, meta }
    }

    /// A whiteout of `path`.
    pub fn whiteout(path: RelPath) -> Self {
        Self::new(path, EntryKind::Whiteout, Meta::default())
    }

    /// An opaque marker for the directory `path`.
    pub fn opaque(path: RelPath) -> Self {
        Self::new(path, EntryKind::Opaque, Meta::default())
    }

    /// The order of entries in trees and tars: by path, an opaque marker after its directory.
    pub fn order(&self, other: &Entry) -> Ordering {
        let rank = |e: &Entry| match e.kind {
            EntryKind::Whiteout => 0,
            EntryKind::Opaque => 2,
            _ => 1,
        };
        self.path.cmp(&other.path).then_with(|| rank(self).cmp(&rank(other)))
    }

    /// The path as a reader should see it.
    pub fn shown(&self) -> Cow<'_, str> {
        Cow::Owned(self.path.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_rejected() {
        // S-30, S-44
        for (raw, clean) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            (".", ""),
            ("a", "a"),
            ("./a/b/", "a/b"),
            ("/etc//passwd", "etc/passwd"),
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("a/..", ""),
            ("...", "..."),
            ("A", "A"),
        ] {
            assert_eq!(RelPath::parse(raw.as_bytes()).map(|p| p.as_bytes().to_vec()), Ok(clean.as_bytes().to_vec()));
        }
        for raw in ["..", "../a", "/..", "a/../../b", "./../x"] {
            assert!(matches!(RelPath::parse(raw.as_bytes()), Err(BadPath::Escapes(_))), "{raw}");
        }
        assert!(matches!(RelPath::parse(b"a\0b"), Err(BadPath::Nul(_))));
    }

    #[test]
    fn subtree_is_contiguous_in_path_order() {
        let mut paths: Vec<RelPath> =
            ["a-b", "a/b", "a", "a/b/c", "a0", "", "a/b-c"].map(|p| RelPath::parse(p.as_bytes()).unwrap()).to_vec();
        paths.sort();
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/", "/a", "/a/b", "/a/b/c", "/a/b-c", "/a-b", "/a0"]);
    }
}
