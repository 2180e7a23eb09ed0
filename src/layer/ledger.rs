//! What one layer has put where so far: the memory beside the disk while a layer is applied.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Kind, Meta, RelPath};
use super::tree::Tree;

/// Entries of the layer being applied, at their real paths.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<RelPath, (Kind, Meta)>,
    /// Other names of a file, by its first name.
    links: BTreeMap<RelPath, BTreeSet<RelPath>>,
    whiteouts: BTreeSet<RelPath>,
    opaque: BTreeSet<RelPath>,
    /// Directories nobody described, made because something is inside.
    implied: BTreeSet<RelPath>,
}

impl Ledger {
    pub(super) fn kind(&self, path: &RelPath) -> Option<&Kind> {
        self.entries.get(path).map(|(kind, _)| kind)
    }

    /// Whether the layer itself put something at `path`, described or implied.
    pub(super) fn holds(&self, path: &RelPath) -> bool {
        self.entries.contains_key(path) || self.implied.contains(path)
    }

    pub(super) fn has_whiteout(&self, path: &RelPath) -> bool {
        self.whiteouts.contains(path)
    }

    pub(super) fn imply(&mut self, path: RelPath) {
        self.implied.insert(path);
    }

    /// Puts an entry; what was at its path has been taken away unless both are directories.
    pub(super) fn put(&mut self, path: RelPath, kind: Kind, meta: Meta) {
        self.implied.remove(&path);
        if let Kind::Hardlink { target } = &kind {
            self.links.entry(target.clone()).or_default().insert(path.clone());
        }
        if self.whiteouts.remove(&path) && kind == Kind::Dir {
            self.opaque.insert(path.clone());
        }
        self.entries.insert(path, (kind, meta));
    }

    /// A deletion of what lower layers have; the layer's own entry at the path, before or after, stays.
    pub(super) fn whiteout(&mut self, path: RelPath) {
        match self.kind(&path) {
            Some(Kind::Dir) => {
                self.opaque.insert(path);
            }
            Some(_) => {}
            None if self.implied.contains(&path) => {
                self.opaque.insert(path);
            }
            None => {
                self.whiteouts.insert(path);
            }
        }
    }

    pub(super) fn set_opaque(&mut self, dir: RelPath) {
        self.opaque.insert(dir);
    }

    /// The first name of the file at `path`, which is not itself a link.
    pub(super) fn file_of(&self, path: &RelPath) -> Option<(RelPath, &Meta)> {
        match self.entries.get(path)? {
            (Kind::Hardlink { target }, _) => self.entries.get(target).map(|(_, meta)| (target.clone(), meta)),
            (_, meta) => Some((path.clone(), meta)),
        }
    }

    /// Forgets `path` and everything below it.
    pub(super) fn take_away(&mut self, path: &RelPath) {
        let below = |set: &BTreeSet<RelPath>| -> Vec<RelPath> {
            set.range(path.clone()..).take_while(|p| p.is_within(path)).cloned().collect()
        };
        for gone in below(&self.implied) {
            self.implied.remove(&gone);
        }
        for gone in below(&self.whiteouts) {
            self.whiteouts.remove(&gone);
        }
        for gone in below(&self.opaque) {
            self.opaque.remove(&gone);
        }
        let gone: Vec<RelPath> =
            self.entries.range(path.clone()..).take_while(|(p, _)| p.is_within(path)).map(|(p, _)| p.clone()).collect();
        for path in gone {
            self.remove(&path);
        }
    }

    fn remove(&mut self, path: &RelPath) {
        let Some((kind, meta)) = self.entries.remove(path) else { return };
        if let Kind::Hardlink { target } = &kind {
            if let Some(links) = self.links.get_mut(target) {
                links.remove(path);
            }
            return;
        }
        // The file lives on under its next name.
        let Some(mut links) = self.links.remove(path) else { return };
        let Some(heir) = links.pop_first() else { return };
        for link in &links {
            if let Some(entry) = self.entries.get_mut(link) {
                entry.0 = Kind::Hardlink { target: heir.clone() };
            }
        }
        self.entries.insert(heir.clone(), (kind, meta));
        self.links.insert(heir, links);
    }

    /// Described directories, deepest last.
    pub(super) fn dirs(&self) -> impl DoubleEndedIterator<Item = (&RelPath, &Meta)> {
        self.entries.iter().filter(|(_, (kind, _))| *kind == Kind::Dir).map(|(path, (_, meta))| (path, meta))
    }

    pub(super) fn implied(&self) -> impl Iterator<Item = &RelPath> {
        self.implied.iter()
    }

    /// Notes what a file holds.
    pub(super) fn set_content(&mut self, path: &RelPath, digest: crate::base::digest::ContentDigest) {
        if let Some((Kind::File { content, .. }, _)) = self.entries.get_mut(path) {
            *content = Some(digest);
        }
    }

    /// The finished tree: the first name in order is the file, the others are links with its metadata.
    pub(super) fn into_tree(mut self) -> Tree {
        let groups = std::mem::take(&mut self.links);
        for (file, links) in groups {
            let Some(first) = links.first().filter(|first| **first < file) else { continue };
            let Some((kind, meta)) = self.entries.remove(&file) else { continue };
            self.entries.insert(file.clone(), (Kind::Hardlink { target: first.clone() }, meta.clone()));
            for link in links.iter().skip(1) {
                self.entries.insert(link.clone(), (Kind::Hardlink { target: first.clone() }, meta.clone()));
            }
            self.entries.insert(first.clone(), (kind, meta));
        }
        let mut all: Vec<Entry> =
            self.entries.into_iter().map(|(path, (kind, meta))| Entry::new(path, kind, meta)).collect();
        all.extend(self.whiteouts.into_iter().map(Entry::whiteout));
        all.extend(self.opaque.into_iter().map(Entry::opaque));
        Tree::new(all)
    }
}
