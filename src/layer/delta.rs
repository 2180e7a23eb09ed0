//! What must be done to the unpacked files of one layer to make those of another.
//!
//! **Hard links.** Names of one file stay together: if one of them differs, all are made again, so that link counts are right.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, EntryKind, Meta, RelPath};
use super::tree::Tree;

/// A delta may always have this many entries and bytes of content, and otherwise a quarter of those of the layer: unpacking
/// all of it then costs little more.
const ENTRIES: usize = 64;
const BYTES: u64 = 4 << 20;
const SHARE: u64 = 4;

/// The difference between a layer and its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    /// What is removed first, with everything in it.
    pub gone: Vec<RelPath>,
    /// What is made then, in order. It replaces what is there, except that a directory stays.
    pub changed: Vec<Entry>,
    /// The directories whose entries change, as the layer describes them, if it does.
    pub dirs: BTreeMap<RelPath, Option<Meta>>,
}

impl Delta {
    /// The difference that makes `layer` out of `base`. `None`: it is hardly smaller than the layer, or of a rare kind.
    pub(crate) fn between(base: &Tree, layer: &Tree) -> Option<Self> {
        let (changed, gone) = (BTreeSet::new(), Vec::new());
        let mut found = Found { base, layer, at: (0, 0), changed, gone };
        while found.step()? {}
        found.keep_links_together();
        let Found { changed, gone, .. } = found;
        if !is_worthwhile(layer, &changed, gone.len()) {
            return None;
        }
        let changed: Vec<Entry> = changed.into_iter().map(|at| layer.entries()[at].clone()).collect();
        let dirs = parents(layer, changed.iter().map(|entry| &entry.path).chain(&gone));
        Some(Self { gone, changed, dirs })
    }
}

/// Two trees that are compared, and what was found so far.
struct Found<'t> {
    base: &'t Tree,
    layer: &'t Tree,
    /// The next entry of each.
    at: (usize, usize),
    /// Entries of the layer that differ.
    changed: BTreeSet<usize>,
    gone: Vec<RelPath>,
}

impl Found<'_> {
    /// Compares the next entries. `None`: they differ in a way that is not supported; `false`: there are none.
    fn step(&mut self) -> Option<bool> {
        let (old, new) = (self.base.entries().get(self.at.0), self.layer.entries().get(self.at.1));
        match (old, new) {
            (None, None) => return Some(false),
            (Some(old), None) => self.only_in_base(old)?,
            (None, Some(new)) => self.only_in_layer(new)?,
            (Some(old), Some(new)) => match old.path.cmp(&new.path) {
                std::cmp::Ordering::Less => self.only_in_base(old)?,
                std::cmp::Ordering::Greater => self.only_in_layer(new)?,
                std::cmp::Ordering::Equal => self.in_both(old, new)?,
            },
        }
        Some(true)
    }

    fn only_in_base(&mut self, old: &Entry) -> Option<()> {
        if old.kind == EntryKind::Opaque || self.has(&old.path) {
            return None;
        }
        // A directory that the base has only because of what is in it goes, too.
        let mut path = old.path.clone();
        while let Some(dir) = path.parent().filter(|dir| !dir.is_root() && !self.has(dir)) {
            path = dir;
        }
        self.skip_base(&path);
        self.gone.push(path);
        Some(())
    }

    fn only_in_layer(&mut self, new: &Entry) -> Option<()> {
        if new.kind == EntryKind::Opaque {
            return None;
        }
        self.changed.insert(self.at.1);
        self.at.1 += 1;
        if new.kind != EntryKind::Dir {
            self.skip_base(&new.path);
        }
        Some(())
    }

    fn in_both(&mut self, old: &Entry, new: &Entry) -> Option<()> {
        let (same, dirs) = (is_same(old, new), old.kind == EntryKind::Dir && new.kind == EntryKind::Dir);
        let opaque = old.kind == EntryKind::Opaque || new.kind == EntryKind::Opaque;
        // Attributes that a directory has no longer would stay.
        if !same && (opaque || (dirs && old.meta.xattrs != new.meta.xattrs)) {
            return None;
        }
        if !same {
            self.changed.insert(self.at.1);
        }
        self.at.1 += 1;
        if same || dirs {
            self.at.0 += 1;
            return Some(());
        }
        self.skip_base(&new.path);
        if new.kind == EntryKind::Dir {
            self.gone.push(new.path.clone());
        }
        Some(())
    }

    /// Whether the layer has something at `path` or below it.
    fn has(&self, path: &RelPath) -> bool {
        !self.layer.subtree(path).is_empty()
    }

    /// Goes past what the base has at `path` and below it.
    fn skip_base(&mut self, path: &RelPath) {
        let rest = &self.base.entries()[self.at.0..];
        self.at.0 += rest.partition_point(|entry| entry.path.is_within(path));
    }

    /// Takes in all names of a file if one of them differs, or was added or removed.
    fn keep_links_together(&mut self) {
        let (before, now) = (links(self.base), links(self.layer));
        let index = |path: &RelPath| self.layer.index_of(path.as_bytes());
        let mut more = BTreeSet::new();
        for (target, names) in &now {
            let all: BTreeSet<usize> = names.iter().chain([target]).filter_map(|path| index(path)).collect();
            if before.get(target) != Some(names) || !all.is_disjoint(&self.changed) {
                more.extend(all);
            }
        }
        more.extend(before.keys().filter(|target| !now.contains_key(*target)).filter_map(|target| index(target)));
        self.changed.extend(more);
    }
}

/// Whether a file of both is known to be the same.
fn is_same(old: &Entry, new: &Entry) -> bool {
    let content = match (&old.kind, &new.kind) {
        (EntryKind::File { size: a, content: x }, EntryKind::File { size: b, content: y }) => {
            a == b && (*a == 0 || (x.is_some() && x == y))
        }
        (a, b) => a == b,
    };
    content && old.meta == new.meta
}

/// The further names of each file that has several.
fn links(tree: &Tree) -> BTreeMap<&RelPath, Vec<&RelPath>> {
    let mut links: BTreeMap<&RelPath, Vec<&RelPath>> = BTreeMap::new();
    for entry in tree.entries() {
        if let EntryKind::Hardlink { target } = &entry.kind {
            links.entry(target).or_default().push(&entry.path);
        }
    }
    links
}

/// The directories above `paths`.
fn parents<'p>(layer: &Tree, paths: impl Iterator<Item = &'p RelPath>) -> BTreeMap<RelPath, Option<Meta>> {
    let mut found = BTreeMap::new();
    for path in paths {
        let mut up = path.parent();
        // If it is there, so are those above it.
        while let Some(dir) = up.filter(|dir| !found.contains_key(dir)) {
            up = dir.parent();
            let meta = layer.get(&dir).map(|entry| entry.meta.clone());
            found.insert(dir, meta);
        }
    }
    found
}

fn is_worthwhile(layer: &Tree, changed: &BTreeSet<usize>, gone: usize) -> bool {
    let size = |entry: &Entry| if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
    let bytes: u64 = changed.iter().map(|at| size(&layer.entries()[*at])).sum();
    let all: u64 = layer.entries().iter().map(size).sum();
    changed.len() + gone <= ENTRIES.max(layer.len() / SHARE as usize) && bytes <= BYTES.max(all / SHARE)
}
