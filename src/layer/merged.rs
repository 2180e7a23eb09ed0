//! The merged tree of a chain of layers, in memory.

use std::sync::{Arc, LazyLock};

use super::entry::{Entry, EntryKind, Meta, RelPath, compare, is_within, parent_of};
use super::tree::Tree;
use crate::base::resolve::{self, Last, Target};

static ROOT: LazyLock<Entry> = LazyLock::new(|| Entry::new(RelPath::root(), EntryKind::Dir, Meta::with_mode(0o755)));

/// A chain of layers merged: whiteouts and opaque markers applied, upper entries over lower ones.
///
/// It is what overlayfs shows of the unpacked layers: a directory of an upper layer replaces a symlink of a lower one.
#[derive(Clone, Debug, Default)]
pub struct MergedTree {
    layers: Vec<Arc<Tree>>,
    /// Directories without an entry in the layer that has something in them.
    implied: Vec<Entry>,
    nodes: Vec<Node>,
}

/// Where a visible entry is: in `layers[layer]`, or with `layer == IMPLIED` in `implied`.
#[derive(Clone, Copy, Debug)]
struct Node {
    layer: u32,
    index: u32,
}

const IMPLIED: u32 = u32::MAX;

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
        let old = std::mem::take(&mut self.nodes);
        let mut new: Vec<Node> = Vec::with_capacity(old.len() + layer.len());
        let mut cursor = 0;
        for (index, entry) in layer.entries().iter().enumerate() {
            let path = entry.path.as_bytes();
            let before = self.lower_bound(&old[cursor..], path);
            new.extend_from_slice(&old[cursor..cursor + before]);
            cursor += before;
            // Also for a whiteout of nothing: unpacked it stands in a directory.
            self.imply_parents(&mut new, path);
            let here = old.get(cursor).filter(|n| self.path_of(**n) == path).copied();
            let below = cursor + old[cursor..].partition_point(|n| is_within(self.path_of(*n), path));
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
                        if new.last().is_none_or(|n| self.path_of(*n) != path) && !path.is_empty() {
                            self.imply(&mut new, path);
                        }
                        cursor = below;
                    }
                }
                EntryKind::Dir => {
                    cursor += usize::from(here.is_some());
                    new.push(node);
                }
                _ => {
                    cursor = below;
                    new.push(node);
                }
            }
        }
        new.extend_from_slice(&old[cursor..]);
        self.nodes = new;
    }

    /// Makes every parent of `path` a directory: parents sort before it, so they are in `new` already or missing.
    fn imply_parents(&mut self, new: &mut Vec<Node>, path: &[u8]) {
        let Some(parent) = parent_of(path).filter(|p| !p.is_empty()) else { return };
        let at = self.lower_bound(new, parent);
        match new.get(at).copied() {
            Some(node) if self.path_of(node) == parent => {
                if self.entry_of(node).kind != EntryKind::Dir {
                    // A lower file or symlink in the way: the upper layer's directory replaces it.
                    new.truncate(at);
                    self.imply(new, parent);
                }
            }
            _ => {
                self.imply_parents(new, parent);
                self.imply(new, parent);
            }
        }
    }

    fn imply(&mut self, new: &mut Vec<Node>, path: &[u8]) {
        let Ok(path) = RelPath::parse(path) else { return };
        new.push(Node { layer: IMPLIED, index: self.implied.len() as u32 });
        self.implied.push(Entry::new(path, EntryKind::Dir, Meta::with_mode(0o755)));
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
        let at = self.lower_bound(&self.nodes, path);
        match self.nodes.get(at) {
            Some(&node) if self.path_of(node) == path => Some(self.found(node)),
            _ if path.is_empty() => Some(MergedEntry { layer: None, entry: &ROOT, inode: &ROOT }),
            _ => None,
        }
    }

    /// What `dir` holds, one level, sorted by name. Nothing if it is not a directory.
    pub fn children<'a>(&'a self, dir: &RelPath) -> impl Iterator<Item = MergedEntry<'a>> + use<'a> {
        let dir = dir.as_bytes().to_vec();
        let mut at = self.lower_bound(&self.nodes, &dir);
        if self.nodes.get(at).is_some_and(|n| self.path_of(*n) == dir) {
            at += 1;
        }
        std::iter::from_fn(move || {
            let node = *self.nodes.get(at)?;
            let path = self.path_of(node);
            if !is_within(path, &dir) {
                return None;
            }
            // The next one that is not below this child.
            at += 1;
            if self.nodes.get(at).is_some_and(|n| is_within(self.path_of(*n), path)) {
                at += self.nodes[at..].partition_point(|n| is_within(self.path_of(*n), path));
            }
            Some(self.found(node))
        })
    }

    /// `dir` itself (if some layer names it) and everything visible below it, in order.
    pub fn subtree<'a>(&'a self, dir: &RelPath) -> impl Iterator<Item = MergedEntry<'a>> + use<'a> {
        let start = self.lower_bound(&self.nodes, dir.as_bytes());
        let len = self.nodes[start..].partition_point(|n| is_within(self.path_of(*n), dir.as_bytes()));
        self.nodes[start..start + len].iter().map(|n| self.found(*n))
    }

    /// Everything visible, in order.
    pub fn iter(&self) -> impl Iterator<Item = MergedEntry<'_>> {
        self.nodes.iter().map(|n| self.found(*n))
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

    fn lower_bound(&self, nodes: &[Node], path: &[u8]) -> usize {
        nodes.partition_point(|n| compare(self.path_of(*n), path).is_lt())
    }

    fn entry_of(&self, node: Node) -> &Entry {
        match node.layer {
            IMPLIED => &self.implied[node.index as usize],
            layer => &self.layers[layer as usize].entries()[node.index as usize],
        }
    }

    fn path_of(&self, node: Node) -> &[u8] {
        self.entry_of(node).path.as_bytes()
    }

    fn found(&self, node: Node) -> MergedEntry<'_> {
        let entry = self.entry_of(node);
        match node.layer {
            IMPLIED => MergedEntry { layer: None, entry, inode: entry },
            layer => {
                MergedEntry { layer: Some(layer as usize), entry, inode: self.layers[layer as usize].inode(entry) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(p: &str) -> RelPath {
        RelPath::parse(p.as_bytes()).unwrap()
    }

    /// `f:a/b` file, `d:a` dir, `w:a` whiteout, `o:a` opaque, `l:a=target` symlink, `h:a=target` hard link.
    fn layer(lines: &[&str]) -> Arc<Tree> {
        let entries = lines
            .iter()
            .map(|line| {
                let (what, rest) = line.split_once(':').unwrap();
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
