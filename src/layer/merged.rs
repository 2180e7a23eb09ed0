//! The merged tree of a chain of layers, in memory.

use std::sync::{Arc, LazyLock};

use super::entry::{Entry, EntryKind, Meta, RelPath, compare, is_within, parent_of};
use super::sequence::{Position, Sequence};
use super::tree::Tree;
use crate::base::resolve::{self, Last, Target};

static ROOT: LazyLock<Entry> = LazyLock::new(|| Entry::new(RelPath::root(), EntryKind::Dir, Meta::with_mode(0o755)));

/// A chain of layers merged: whiteouts and opaque markers applied, upper entries over lower ones.
///
/// It is what overlayfs shows of the unpacked layers: a directory of an upper layer replaces a symlink of a lower one.
///
/// A clone shares everything; [`MergedTree::push`] on it copies only what lies around the changes.
#[derive(Clone, Debug, Default)]
pub struct MergedTree {
    layers: Vec<Arc<Tree>>,
    /// By layer: directories without an entry in the layer that has something in them.
    implied: Vec<Arc<Vec<Entry>>>,
    nodes: Sequence<Node>,
}

/// Where a visible entry is: in `layers[layer]`, or in `implied[layer]` if `index` has the bit [`IMPLIED`].
#[derive(Clone, Copy, Debug)]
struct Node {
    layer: u32,
    index: u32,
}

const IMPLIED: u32 = 1 << 31;

/// A visible entry and the layer that put it there.
#[derive(Clone, Copy, Debug)]
pub struct MergedEntry<'a> {
    /// Which layer of the chain, counted from the bottom; `None` for a directory that no layer describes.
    pub layer: Option<usize>,
    /// The entry as that layer has it; possibly a hard link.
    pub entry: &'a Entry,
    inode: &'a Entry,
}

impl<'a> MergedEntry<'a> {
    /// The file itself: for a hard link the entry of its target, in the same layer. Its path is where
    /// `layers/<diff-id>/fs` has the bytes, also when an upper layer has since replaced that name.
    pub fn inode(&self) -> &'a Entry {
        self.inode
    }

    /// Where it is.
    pub fn path(&self) -> &'a RelPath {
        &self.entry.path
    }

    /// What it is; hard links already followed.
    pub fn kind(&self) -> &'a EntryKind {
        &self.inode.kind
    }

    /// Its metadata.
    pub fn meta(&self) -> &'a Meta {
        &self.inode.meta
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.entry.kind == EntryKind::Dir
    }
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ResolveError {
    /// More than 40 symlinks on the way (S-32).
    #[error("{0}: too many levels of symbolic links")]
    Loop(String),
    /// A component on the way is neither directory nor symlink.
    #[error("{0}: not a directory")]
    NotADirectory(RelPath),
    /// A NUL byte in the path or in a link on the way.
    #[error("{0}: invalid path")]
    Invalid(String),
}

impl MergedTree {
    /// Nothing but a root directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The union of `layers`, bottom first.
    pub fn over(layers: impl IntoIterator<Item = Arc<Tree>>) -> Self {
        let mut merged = Self::new();
        for layer in layers {
            merged.push(layer);
        }
        merged
    }

    /// The layers, bottom first; [`MergedEntry::layer`] counts in this list.
    pub fn layers(&self) -> &[Arc<Tree>] {
        &self.layers
    }

    /// Lays `layer` on top.
    pub fn push(&mut self, layer: Arc<Tree>) {
        let number = self.layers.len() as u32;
        self.layers.push(Arc::clone(&layer));
        self.implied.push(Arc::default());
        let old = std::mem::take(&mut self.nodes);
        let mut new = Sequence::default();
        let mut cursor = old.start();
        for (index, entry) in layer.entries().iter().enumerate() {
            let path = entry.path.as_bytes();
            let start = self.lower_bound(&old, cursor, path);
            new.extend(&old, cursor, start);
            cursor = start;
            // Also for a whiteout of nothing: unpacked it stands in a directory.
            self.imply_parents(&mut new, path);
            let here = old.get(cursor).filter(|n| self.path_of(*n) == path);
            let below = self.end_of(&old, cursor, path);
            let node = Node { layer: number, index: index as u32 };
            match entry.kind {
                EntryKind::Whiteout => cursor = below,
                EntryKind::Opaque => {
                    if let Some(here) = here {
                        // The layer has no entry for it: it keeps the metadata of the directory below.
                        let is_dir = self.entry_of(here).kind == EntryKind::Dir;
                        cursor = below;
                        if is_dir {
                            new.push(here);
                        } else {
                            self.imply(&mut new, path);
                        }
                    } else {
                        if new.last().is_none_or(|n| self.path_of(n) != path) && !path.is_empty() {
                            self.imply(&mut new, path);
                        }
                        cursor = below;
                    }
                }
                EntryKind::Dir => {
                    if here.is_some() {
                        cursor = old.next(cursor);
                    }
                    new.push(node);
                }
                _ => {
                    cursor = below;
                    new.push(node);
                }
            }
        }
        new.extend(&old, cursor, old.end());
        self.nodes = new;
    }

    /// Makes every parent of `path` a directory: parents sort before it, so they are in `new` already or missing.
    fn imply_parents(&mut self, new: &mut Sequence<Node>, path: &[u8]) {
        let Some(parent) = parent_of(path).filter(|p| !p.is_empty()) else { return };
        let at = self.lower_bound(new, new.start(), parent);
        match new.get(at) {
            Some(node) if self.path_of(node) == parent => {
                if self.entry_of(node).kind != EntryKind::Dir {
                    // A lower file or symlink in the way, which has nothing below it and so is the last: the upper
                    // layer's directory replaces it.
                    new.pop();
                    self.imply(new, parent);
                }
            }
            _ => {
                self.imply_parents(new, parent);
                self.imply(new, parent);
            }
        }
    }

    /// Adds a directory that the topmost layer does not describe.
    fn imply(&mut self, new: &mut Sequence<Node>, path: &[u8]) {
        let Ok(path) = RelPath::parse(path) else { return };
        let number = self.layers.len() - 1;
        let implied = Arc::make_mut(&mut self.implied[number]);
        new.push(Node { layer: number as u32, index: implied.len() as u32 | IMPLIED });
        implied.push(Entry::new(path, EntryKind::Dir, Meta::with_mode(0o755)));
    }

    /// The lowest visible layer: one that is opaque at its root hides all below. Overlayfs does not support that of a lower
    /// directory.
    pub fn bottom(&self) -> usize {
        self.layers.iter().rposition(|layer| layer.is_opaque(&RelPath::root())).unwrap_or(0)
    }

    /// What is visible at `path`, symlinks not followed. The root always is.
    pub fn get(&self, path: &RelPath) -> Option<MergedEntry<'_>> {
        self.get_bytes(path.as_bytes())
    }

    fn get_bytes(&self, path: &[u8]) -> Option<MergedEntry<'_>> {
        match self.nodes.get(self.lower_bound(&self.nodes, self.nodes.start(), path)) {
            Some(node) if self.path_of(node) == path => Some(self.found(node)),
            _ if path.is_empty() => Some(MergedEntry { layer: None, entry: &ROOT, inode: &ROOT }),
            _ => None,
        }
    }

    /// What `dir` holds, one level, sorted by name. Nothing if it is not a directory.
    pub fn children<'a>(&'a self, dir: &RelPath) -> impl Iterator<Item = MergedEntry<'a>> + use<'a> {
        let dir = dir.as_bytes().to_vec();
        let mut at = self.lower_bound(&self.nodes, self.nodes.start(), &dir);
        if self.nodes.get(at).is_some_and(|n| self.path_of(n) == dir) {
            at = self.nodes.next(at);
        }
        std::iter::from_fn(move || {
            let node = self.nodes.get(at)?;
            let path = self.path_of(node);
            if !is_within(path, &dir) {
                return None;
            }
            // The next one that is not below this child.
            at = self.nodes.next(at);
            if self.nodes.get(at).is_some_and(|n| is_within(self.path_of(n), path)) {
                at = self.end_of(&self.nodes, at, path);
            }
            Some(self.found(node))
        })
    }

    /// `dir` itself (if some layer names it) and everything visible below it, in order.
    pub fn subtree<'a>(&'a self, dir: &RelPath) -> impl Iterator<Item = MergedEntry<'a>> + use<'a> {
        let start = self.lower_bound(&self.nodes, self.nodes.start(), dir.as_bytes());
        let end = self.end_of(&self.nodes, start, dir.as_bytes());
        self.nodes.range(start, end).map(|n| self.found(n))
    }

    /// Everything visible, in order.
    pub fn iter(&self) -> impl Iterator<Item = MergedEntry<'_>> {
        self.nodes.iter().map(|n| self.found(n))
    }

    /// The target of the symlink at `path`.
    pub fn readlink(&self, path: &RelPath) -> Option<&[u8]> {
        match self.get(path)?.kind() {
            EntryKind::Symlink { target } => Some(target),
            _ => None,
        }
    }

    /// Where `path` (absolute or relative to the root) leads, symlinks followed inside the root. What does not exist is
    /// kept as written, so the result may name something that is still to be made.
    pub fn resolve(&self, path: &[u8], last: Last) -> Result<RelPath, ResolveError> {
        let text = || super::entry::shown(path);
        if path.contains(&0) {
            return Err(ResolveError::Invalid(text()));
        }
        let lookup = |path: &[u8]| match self.get_bytes(path).map(|found| found.kind()) {
            None => Ok(Target::Absent),
            Some(EntryKind::Dir) => Ok(Target::Dir),
            Some(EntryKind::Symlink { target }) if target.contains(&0) => Err(ResolveError::Invalid(text())),
            Some(EntryKind::Symlink { target }) => Ok(Target::link(target)),
            Some(_) => Ok(Target::Other),
        };
        match resolve::resolve(b"", path, last, lookup) {
            Ok(path) => Ok(RelPath::from_clean(&path)),
            Err(resolve::Error::Loop) => Err(ResolveError::Loop(text())),
            Err(resolve::Error::NotADirectory(path)) => Err(ResolveError::NotADirectory(RelPath::from_clean(&path))),
            Err(resolve::Error::Lookup(error)) => Err(error),
        }
    }

    /// The first place from `from` on that is not before `path`.
    fn lower_bound(&self, nodes: &Sequence<Node>, from: Position, path: &[u8]) -> Position {
        nodes.partition_point(from, |n| compare(self.path_of(n), path).is_lt())
    }

    /// Behind what lies at and below `path`, which begins at `from`.
    fn end_of(&self, nodes: &Sequence<Node>, from: Position, path: &[u8]) -> Position {
        nodes.partition_point(from, |n| is_within(self.path_of(n), path))
    }

    fn entry_of(&self, node: Node) -> &Entry {
        let layer = node.layer as usize;
        match node.index & IMPLIED {
            0 => &self.layers[layer].entries()[node.index as usize],
            _ => &self.implied[layer][(node.index & !IMPLIED) as usize],
        }
    }

    fn path_of(&self, node: Node) -> &[u8] {
        self.entry_of(node).path.as_bytes()
    }

    fn found(&self, node: Node) -> MergedEntry<'_> {
        let entry = self.entry_of(node);
        match node.index & IMPLIED {
            0 => {
                let layer = node.layer as usize;
                MergedEntry { layer: Some(layer), entry, inode: self.layers[layer].inode(entry) }
            }
            _ => MergedEntry { layer: None, entry, inode: entry },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn path(p: &str) -> RelPath {
        RelPath::parse(p.as_bytes()).unwrap()
    }

    /// `f:a/b` file, `d:a` dir, `w:a` whiteout, `o:a` opaque, `l:a=target` symlink, `h:a=target` hard link.
    fn layer(lines: &[impl AsRef<str>]) -> Arc<Tree> {
        let entries = lines
            .iter()
            .map(|line| {
                let (what, rest) = line.as_ref().split_once(':').unwrap();
                let (name, target) = rest.split_once('=').unwrap_or((rest, ""));
                let kind = match what {
                    "f" => EntryKind::File { size: target.parse().unwrap_or(0), content: None },
                    "d" => EntryKind::Dir,
                    "w" => EntryKind::Whiteout,
                    "o" => EntryKind::Opaque,
                    "l" => EntryKind::Symlink { target: target.as_bytes().to_vec() },
                    _ => EntryKind::Hardlink { target: path(target) },
                };
                Entry::new(path(name), kind, Meta::with_mode(0o644))
            })
            .collect();
        Arc::new(Tree::new(entries))
    }

    fn shown(layers: &[&[&str]]) -> Vec<String> {
        let merged = MergedTree::over(layers.iter().map(|l| layer(l)));
        merged.iter().map(|f| format!("{}{}", f.path(), f.layer.map_or("!".into(), |l| format!("@{l}")))).collect()
    }

    #[test]
    fn upper_layers_hide_replace_and_add() {
        let base: &[&str] = &["d:a", "f:a/x", "f:a/y", "d:a/sub", "f:a/sub/z", "f:a-b", "l:s=a"];
        for (upper, want) in [
            (&["w:a/x"][..], &["/a@0", "/a/sub@0", "/a/sub/z@0", "/a/y@0", "/a-b@0", "/s@0"][..]),
            (&["w:a"], &["/a-b@0", "/s@0"]),
            (&["w:nothing"], &["/a@0", "/a/sub@0", "/a/sub/z@0", "/a/x@0", "/a/y@0", "/a-b@0", "/s@0"]),
            (&["d:a", "o:a", "f:a/new"], &["/a@1", "/a/new@1", "/a-b@0", "/s@0"]),
            (&["o:a", "f:a/new"], &["/a@0", "/a/new@1", "/a-b@0", "/s@0"]),
            (&["f:a"], &["/a@1", "/a-b@0", "/s@0"]),
            (&["d:a"], &["/a@1", "/a/sub@0", "/a/sub/z@0", "/a/x@0", "/a/y@0", "/a-b@0", "/s@0"]),
            (
                &["d:a-b", "f:a-b/q"],
                &["/a@0", "/a/sub@0", "/a/sub/z@0", "/a/x@0", "/a/y@0", "/a-b@1", "/a-b/q@1", "/s@0"],
            ),
            (&["o:"], &[]),
            (&["w:q/x"], &["/a@0", "/a/sub@0", "/a/sub/z@0", "/a/x@0", "/a/y@0", "/a-b@0", "/q!", "/s@0"]),
            (
                &["f:n/m/o"],
                &["/a@0", "/a/sub@0", "/a/sub/z@0", "/a/x@0", "/a/y@0", "/a-b@0", "/n!", "/n/m!", "/n/m/o@1", "/s@0"],
            ),
            (&["f:s/o"], &["/a@0", "/a/sub@0", "/a/sub/z@0", "/a/x@0", "/a/y@0", "/a-b@0", "/s!", "/s/o@1"]),
        ] {
            assert_eq!(shown(&[base, upper]), want, "{upper:?}");
        }
    }

    /// The definition: every entry of the layer in turn takes away what it hides and adds itself and its parents.
    fn slowly(layers: &[Arc<Tree>]) -> Vec<(String, Option<usize>)> {
        let mut all: BTreeMap<RelPath, (Option<usize>, bool)> = BTreeMap::new();
        for (number, tree) in layers.iter().enumerate() {
            for entry in tree.entries() {
                let is_here = |path: &RelPath| *path == entry.path;
                match entry.kind {
                    EntryKind::Dir => {}
                    EntryKind::Opaque => {
                        all.retain(|p, (_, is_dir)| !p.is_within(&entry.path) || is_here(p) && *is_dir)
                    }
                    _ => all.retain(|p, _| !p.is_within(&entry.path)),
                }
                let mut up = entry.path.parent();
                while let Some(dir) = up.filter(|dir| !dir.is_root()) {
                    up = dir.parent();
                    if !all.get(&dir).is_some_and(|(_, is_dir)| *is_dir) {
                        all.insert(dir, (None, true));
                    }
                }
                match entry.kind {
                    EntryKind::Whiteout => {}
                    EntryKind::Opaque => drop(all.entry(entry.path.clone()).or_insert((None, true))),
                    _ => drop(all.insert(entry.path.clone(), (Some(number), entry.kind == EntryKind::Dir))),
                }
            }
        }
        all.into_iter().map(|(path, (layer, _))| (path.to_string(), layer)).collect()
    }

    proptest! {
        #[test]
        fn merged_tree_equals_its_slow_definition(
            layers in vec(btree_map("[abc](/[abc]){0,3}", 0..5usize, 0..40), 1..6),
        ) {
            let lines = |(path, kind): (&String, &usize)| match kind {
                0 => vec![format!("f:{path}")],
                1 => vec![format!("d:{path}")],
                2 => vec![format!("w:{path}")],
                3 => vec![format!("o:{path}")],
                _ => vec![format!("d:{path}"), format!("o:{path}")],
            };
            let layers: Vec<Arc<Tree>> =
                layers.iter().map(|all| layer(&all.iter().flat_map(lines).collect::<Vec<_>>())).collect();
            let mut merged = MergedTree::new();
            let mut before: Vec<(MergedTree, usize)> = Vec::new();
            for (number, layer) in layers.iter().enumerate() {
                before.push((merged.clone(), number));
                merged.push(Arc::clone(layer));
            }
            before.push((merged, layers.len()));
            for (merged, count) in before {
                let got: Vec<_> = merged.iter().map(|f| (f.path().to_string(), f.layer)).collect();
                prop_assert_eq!(got, slowly(&layers[..count]));
            }
        }
    }

    #[test]
    fn hard_link_survives_removal_of_first_name() {
        let merged = MergedTree::over([layer(&["f:a=7", "h:b=a"]), layer(&["w:a"])]);
        assert!(merged.get(&path("a")).is_none());
        let b = merged.get(&path("b")).unwrap();
        assert_eq!((b.layer, b.inode().path.to_string()), (Some(0), "/a".to_owned()));
        assert_eq!(*b.kind(), EntryKind::File { size: 7, content: None });
    }

    #[test]
    fn resolve_stays_inside_root() {
        let merged = MergedTree::over([layer(&[
            "d:etc",
            "f:etc/passwd",
            "l:abs=/etc",
            "l:up=../../etc",
            "l:loop=loop",
            "d:d",
            "l:d/rel=../etc/passwd",
        ])]);
        let resolve = |p: &str, follow| {
            merged.resolve(p.as_bytes(), if follow { Last::Follow } else { Last::Keep }).map(|p| p.to_string())
        };
        assert_eq!(resolve("/abs/passwd", true), Ok("/etc/passwd".into()));
        assert_eq!(resolve("up/passwd", true), Ok("/etc/passwd".into()));
        assert_eq!(resolve("d/rel", true), Ok("/etc/passwd".into()));
        assert_eq!(resolve("d/rel", false), Ok("/d/rel".into()));
        assert_eq!(resolve("/../..", true), Ok("/".into()));
        assert_eq!(resolve("abs/new/file", true), Ok("/etc/new/file".into()));
        assert!(matches!(resolve("loop/x", true), Err(ResolveError::Loop(_))));
        assert!(matches!(resolve("etc/passwd/x", true), Err(ResolveError::NotADirectory(_))));
        let names: Vec<String> = merged.children(&path("etc")).map(|f| f.path().to_string()).collect();
        assert_eq!(names, ["/etc/passwd"]);
        assert_eq!(merged.children(&RelPath::root()).count(), 5);
    }
}
