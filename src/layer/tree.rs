//! The tree of one layer: a sorted list of entries.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::ops::Range;

use crate::base::digest::ContentDigest;

use super::entry::{Entry, EntryKind, RelPath, compare, is_within};
use super::tree_bytes::{self, BadTree};

/// What one layer holds and hides, sorted; at most one entry per path, plus an opaque marker after a directory.
///
/// Paths are where the files really are after links inside the layer were followed; owners, modes and device numbers
/// are the true ones, also when the host could not express them on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    /// A tree of these entries. They are sorted; of several at one path the last wins (S-35), a whiteout gives way to
    /// an entry at its path, and a whiteout beside a directory becomes an opaque directory.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        if !entries.is_sorted_by(|a, b| a.order(b).is_lt()) {
            entries.sort_by(Entry::order);
        }
        if entries.is_sorted_by(|a, b| a.path != b.path) {
            // The usual case needs no second list, which could hold millions of entries.
            return Self { entries };
        }
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(last) = kept.last()
                && last.path == entry.path
            {
                match (&last.kind, &entry.kind) {
                    (EntryKind::Whiteout, EntryKind::Dir) => {
                        kept.pop();
                        let marker = Entry::opaque(entry.path.clone());
                        kept.extend([entry, marker]);
                        continue;
                    }
                    (EntryKind::Opaque, EntryKind::Opaque) => continue,
                    (EntryKind::Opaque, EntryKind::Dir) => {
                        let at = kept.len() - 1;
                        kept.insert(at, entry);
                        if at > 0 && kept[at - 1].path == kept[at].path {
                            kept.remove(at - 1);
                        }
                        continue;
                    }
                    (EntryKind::Dir, EntryKind::Opaque) => {}
                    _ => {
                        kept.pop();
                    }
                }
            }
            kept.push(entry);
        }
        Self { entries: kept }
    }

    /// All entries in order, markers included.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at `path`: a file, a directory, a whiteout, … but not an opaque marker.
    pub fn get(&self, path: &RelPath) -> Option<&Entry> {
        self.index_of(path.as_bytes()).map(|i| &self.entries[i])
    }

    /// Whether the layer hides what lower layers have below `dir`.
    pub fn is_opaque(&self, dir: &RelPath) -> bool {
        let start = self.entries.partition_point(|e| e.path < *dir);
        self.entries[start..].iter().take_while(|e| e.path == *dir).any(|e| e.kind == EntryKind::Opaque)
    }

    /// Directories without an entry that hold something or are opaque, in order. Such a directory has the metadata of the one
    /// in lower layers, if there is one; else mode 0755 and owner root (N-4).
    pub fn implied_dirs(&self) -> BTreeSet<RelPath> {
        let mut implied = BTreeSet::new();
        let mut last = RelPath::root();
        for entry in &self.entries {
            let dir = if entry.kind == EntryKind::Opaque { Some(entry.path.clone()) } else { entry.path.parent() };
            let Some(dir) = dir.filter(|dir| *dir != last) else { continue };
            let mut up = Some(dir.clone());
            last = dir;
            while let Some(dir) = up.filter(|dir| !dir.is_root() && self.get(dir).is_none()) {
                up = dir.parent();
                implied.insert(dir);
            }
        }
        implied
    }

    /// `dir` and everything below it.
    pub fn subtree(&self, dir: &RelPath) -> &[Entry] {
        &self.entries[self.subtree_range(dir.as_bytes())]
    }

    /// The file an entry names: itself, or for a hard link the entry of its target.
    pub fn inode<'a>(&'a self, entry: &'a Entry) -> &'a Entry {
        match &entry.kind {
            EntryKind::Hardlink { target } => self.get(target).unwrap_or(entry),
            _ => entry,
        }
    }

    /// Whether the entries are those of `other`, apart from digests and fractions of a second: a layer that is not packed yet
    /// may be `other`.
    pub fn resembles(&self, other: &Self) -> bool {
        let same = |a: &Entry, b: &Entry| {
            let kind = match (&a.kind, &b.kind) {
                (EntryKind::File { size: a, .. }, EntryKind::File { size: b, .. }) => a == b,
                (a, b) => a == b,
            };
            let meta = |e: &Entry| (e.meta.mode, e.meta.uid, e.meta.gid, e.meta.mtime.secs);
            kind && a.path == b.path && meta(a) == meta(b)
        };
        self.len() == other.len() && self.entries().iter().zip(other.entries()).all(|(a, b)| same(a, b))
    }

    /// Adds the digest of the file at `path`. False: there is no file.
    pub fn set_content(&mut self, path: &RelPath, digest: ContentDigest) -> bool {
        let Some(index) = self.index_of(path.as_bytes()) else { return false };
        match &mut self.entries[index].kind {
            EntryKind::File { content, .. } => {
                *content = Some(digest);
                true
            }
            _ => false,
        }
    }

    /// The tree as bytes, for [`Tree::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree_bytes::encode(&self.entries, &mut bytes).expect("memory takes everything");
        bytes
    }

    /// Writes [`Tree::to_bytes`] to `to`, for [`Tree::read`].
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        tree_bytes::encode(&self.entries, to)
    }

    /// Reads a tree back. Damage is an error, never a smaller tree.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadTree> {
        Self::read(bytes, bytes.len() as u64).map_err(|e| e.downcast().unwrap_or(BadTree::Damaged))
    }

    /// Reads a tree of `len` bytes without holding all of them in memory. Bytes that are not a tree are
    /// [`InvalidData`](io::ErrorKind::InvalidData).
    pub fn read(from: impl BufRead, len: u64) -> io::Result<Self> {
        Ok(Self { entries: tree_bytes::decode(from, len)? })
    }

    pub(super) fn index_of(&self, path: &[u8]) -> Option<usize> {
        let at = self.entries.partition_point(|e| compare(e.path.as_bytes(), path).is_lt());
        let entry = self.entries.get(at)?;
        (entry.path.as_bytes() == path && entry.kind != EntryKind::Opaque).then_some(at)
    }

    pub(super) fn subtree_range(&self, dir: &[u8]) -> Range<usize> {
        let start = self.entries.partition_point(|e| compare(e.path.as_bytes(), dir).is_lt());
        let len = self.entries[start..].partition_point(|e| is_within(e.path.as_bytes(), dir));
        start..start + len
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Meta;
    use super::*;
    use crate::base::digest::Sha256;
    use crate::base::time::Timestamp;

    fn path(p: &str) -> RelPath {
        RelPath::parse(p.as_bytes()).unwrap()
    }

    fn at(p: &str, kind: EntryKind) -> Entry {
        let meta = if kind.is_marker() { Meta::default() } else { Meta::with_mode(0o755) };
        Entry::new(path(p), kind, meta)
    }

    #[test]
    fn last_entry_at_a_path_wins() {
        let file = |size| EntryKind::File { size, content: None };
        // S-35: whiteout and entry of one name, in either order
        let tree = Tree::new(vec![
            at("f", file(1)),
            at("f", file(2)),
            at("w", file(3)),
            at("w", EntryKind::Whiteout),
            at("d", EntryKind::Dir),
            at("d", EntryKind::Whiteout),
            at("d/x", file(4)),
            at("o", EntryKind::Opaque),
            at("o", EntryKind::Dir),
        ]);
        let shown: Vec<String> = tree.entries().iter().map(|e| format!("{} {:?}", e.path, e.kind)).collect();
        assert_eq!(
            shown,
            [
                "/d Dir",
                "/d Opaque",
                "/d/x File { size: 4, content: None }",
                "/f File { size: 2, content: None }",
                "/o Dir",
                "/o Opaque",
                "/w File { size: 3, content: None }",
            ]
        );
        assert!(tree.is_opaque(&path("d")) && !tree.is_opaque(&path("f")));
        assert_eq!(tree.subtree(&path("d")).len(), 3);
    }

    #[test]
    fn directories_without_an_entry_are_implied() {
        let file = || EntryKind::File { size: 1, content: None };
        for (entries, want) in [
            (vec![at("a/b/c", file())], &["/a", "/a/b"][..]),
            (vec![at("a/b", EntryKind::Dir), at("a/b/c", file())], &["/a"]),
            (vec![at("a", EntryKind::Opaque)], &["/a"]),
            (vec![at("a", EntryKind::Dir), at("a", EntryKind::Opaque), at("a/x", file())], &[]),
            (
                vec![at("a/b", EntryKind::Opaque), at("a/b/c", file()), at("a/d/e", EntryKind::Whiteout)],
                &["/a", "/a/b", "/a/d"],
            ),
            (vec![at("", EntryKind::Opaque), at("a", file()), at("b", EntryKind::Whiteout)], &[]),
        ] {
            let tree = Tree::new(entries);
            let implied: Vec<String> = tree.implied_dirs().iter().map(ToString::to_string).collect();
            assert_eq!(implied, want, "{:?}", tree.entries());
        }
    }

    #[test]
    fn tree_bytes_round_trip() {
        let mut odd =
            at("dir/\u{e9}\n", EntryKind::File { size: 1 << 40, content: Some(ContentDigest(Sha256::of(b"x"))) });
        odd.meta.uid = u32::MAX;
        odd.meta.mtime = Timestamp { secs: -5, nanos: 7 };
        odd.meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 10]);
        let tree = Tree::new(vec![
            at("", EntryKind::Dir),
            at("dir", EntryKind::Dir),
            at("dir", EntryKind::Opaque),
            odd,
            at("dir/l", EntryKind::Symlink { target: b"../\xff".to_vec() }),
            at("h", EntryKind::Hardlink { target: path("dir/x") }),
            at("c", EntryKind::Char { major: 1, minor: 3 }),
            at("b", EntryKind::Block { major: 259, minor: 1 << 20 }),
            at("p", EntryKind::Fifo),
            at("gone", EntryKind::Whiteout),
        ]);
        let bytes = tree.to_bytes();
        assert_eq!(Tree::from_bytes(&bytes), Ok(tree));
        for cut in 0..bytes.len() {
            assert!(Tree::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(Tree::from_bytes(&[b"kilntree\xff", &[0; 32][..]].concat()), Err(BadTree::Version(255)));
    }
}
