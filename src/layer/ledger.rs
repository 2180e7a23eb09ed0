//! The entries of a layer that is being read, at their real paths.
//!
//! **Holds.** The parents of a name are resolved in memory: symlinks of the layer are followed inside the root, so no entry
//! leaves it; the last component is not followed (S-31, S-32). The last entry at a path wins (S-34, S-35). Whiteouts and opaque
//! markers concern the layers below, never the layer's own entries, in whatever order they come (S-38).
//! **Not here.** The disk: `fill` creates what this module admits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::{Entry, EntryKind, Meta, RelPath};
use super::error::Error;
use super::limits::Limits;
use super::tar_write;
use super::tree::Tree;
use crate::base::digest::ContentDigest;
use crate::base::resolve::{self, Last, Target};

/// The approximate memory of an entry without its path and attributes.
const ENTRY_BYTES: usize = 160;

/// An entry that was admitted.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The entry at its real path; a hard link names a path that exists.
    pub(super) entry: Entry,
    /// The layer itself put something there before, which must be removed first.
    pub(super) replaces: bool,
}

/// Entries of the layer being applied, at their real paths.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Boxed: a map that was filled in order is half empty.
    entries: BTreeMap<RelPath, Box<(EntryKind, Arc<Meta>)>>,
    /// The metadata of the last entry, shared with the next: most files of a layer have the same.
    meta: Arc<Meta>,
    /// Other names of a file, by its first name.
    links: BTreeMap<RelPath, BTreeSet<RelPath>>,
    whiteouts: BTreeSet<RelPath>,
    opaque: BTreeSet<RelPath>,
    /// Directories without an entry, which exist because something is in them.
    implied: BTreeSet<RelPath>,
    /// The directory resolved last: its name in the archive and its real path.
    last: Option<(RelPath, RelPath)>,
    held: u64,
    limits: Limits,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next entry of the archive. `None`: nothing to put on disk now; markers come last, from
    /// [`Ledger::whiteouts`] and [`Ledger::opaque`].
    pub(super) fn admit(&mut self, mut entry: Entry) -> Result<Option<Admitted>, Error> {
        if entry.kind == EntryKind::Opaque {
            let dir = self.walk(&entry.path, true)?.unwrap_or_default();
            self.opaque.insert(dir);
            return Ok(None);
        }
        let Some(parent) = entry.path.parent() else {
            if entry.kind != EntryKind::Dir {
                return Err(refuse(&entry.path, "only a directory can be the root"));
            }
            let meta = self.share(&entry.meta);
            self.entries.insert(entry.path.clone(), Box::new((EntryKind::Dir, meta)));
            return Ok(Some(Admitted { entry, replaces: false }));
        };
        let parent = self.walk(&parent, true)?.unwrap_or_default();
        entry.path = parent.join(entry.path.name());
        if entry.kind == EntryKind::Whiteout {
            self.hold(entry.path.as_bytes().len())?;
            self.whiteouts.insert(entry.path);
            return Ok(None);
        }
        if let EntryKind::Hardlink { target } = &entry.kind {
            let named = self.link_target(&entry.path, target)?;
            let replaces = self.replace(&entry.path, &entry.kind);
            let file = self.file_of(&named);
            entry.meta = self.at(&file).map(|(_, meta)| Meta::clone(meta)).unwrap_or_default();
            self.put(entry.path.clone(), EntryKind::Hardlink { target: file }, &entry.meta)?;
            entry.kind = EntryKind::Hardlink { target: named };
            return Ok(Some(Admitted { entry, replaces }));
        }
        let replaces = self.replace(&entry.path, &entry.kind);
        self.put(entry.path.clone(), entry.kind.clone(), &entry.meta)?;
        Ok(Some(Admitted { entry, replaces }))
    }

    /// The real name of a hard link's target, whose last component is not followed (S-33).
    fn link_target(&mut self, path: &RelPath, target: &RelPath) -> Result<RelPath, Error> {
        let missing = || refuse(path, format!("hard link to {target}, which is not in the archive before it"));
        let parent = target.parent().ok_or_else(missing)?;
        let real = self.walk(&parent, false)?.ok_or_else(missing)?.join(target.name());
        if real == *path {
            return Err(refuse(path, "hard link to itself"));
        }
        if real.is_within(path) {
            return Err(refuse(path, "hard link to something inside what it replaces"));
        }
        match self.at(&real) {
            None if self.implied.contains(&real) => Err(refuse(path, "hard link to a directory")),
            None => Err(missing()),
            Some((EntryKind::Dir, _)) => Err(refuse(path, "hard link to a directory")),
            Some(_) => Ok(real),
        }
    }

    fn at(&self, path: &RelPath) -> Option<&(EntryKind, Arc<Meta>)> {
        self.entries.get(path).map(|entry| &**entry)
    }

    /// The first name of the file at `path`.
    fn file_of(&self, path: &RelPath) -> RelPath {
        match self.at(path) {
            Some((EntryKind::Hardlink { target }, _)) => target.clone(),
            _ => path.clone(),
        }
    }

    /// Makes room for `kind` at `path`. True: the layer had put something there that was removed.
    fn replace(&mut self, path: &RelPath, kind: &EntryKind) -> bool {
        let there = self.at(path).map(|(kind, _)| kind);
        let is_dir = self.implied.contains(path) || there == Some(&EntryKind::Dir);
        if (there.is_none() && !is_dir) || (is_dir && *kind == EntryKind::Dir) {
            return false;
        }
        self.remove_subtree(path);
        true
    }

    fn share(&mut self, meta: &Meta) -> Arc<Meta> {
        if *self.meta != *meta {
            self.meta = Arc::new(meta.clone());
        }
        Arc::clone(&self.meta)
    }

    fn put(&mut self, path: RelPath, kind: EntryKind, meta: &Meta) -> Result<(), Error> {
        self.implied.remove(&path);
        if let EntryKind::Hardlink { target } = &kind {
            self.links.entry(target.clone()).or_default().insert(path.clone());
        }
        let attributes: usize = meta.xattrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let target = match &kind {
            EntryKind::Symlink { target } => target.len(),
            EntryKind::Hardlink { target } => target.as_bytes().len() * 2,
            _ => 0,
        };
        self.hold(path.as_bytes().len() + attributes + target)?;
        if matches!(kind, EntryKind::Symlink { .. } | EntryKind::Hardlink { .. }) {
            // It may change what the path of the directory resolves to.
            self.last = None;
        }
        let meta = self.share(meta);
        self.entries.insert(path, Box::new((kind, meta)));
        Ok(())
    }

    /// Counts memory, which a hostile archive can make grow far beyond its compressed size (S-39).
    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        self.held += (bytes + ENTRY_BYTES) as u64;
        let limit = self.limits.tree_bytes;
        if self.held > limit { Err(Error::Limit { what: "bytes of names and attributes", limit }) } else { Ok(()) }
    }

    fn imply(&mut self, path: &RelPath) -> Result<(), Error> {
        self.hold(path.as_bytes().len())?;
        self.implied.insert(path.clone());
        Ok(())
    }

    /// The real path of directory `raw`; with `make`, missing directories are implied.
    fn walk(&mut self, raw: &RelPath, make: bool) -> Result<Option<RelPath>, Error> {
        if raw.is_root() {
            return Ok(Some(RelPath::root()));
        }
        if let Some((known, real)) = &self.last
            && known == raw
        {
            return Ok(Some(real.clone()));
        }
        // What is missing is made only if the path ends there: a later `..` may leave it again.
        let lookup = |path: &[u8]| {
            let path = RelPath::from_clean(path);
            let there = match self.at(&path) {
                Some((EntryKind::Hardlink { target }, _)) => self.at(target),
                other => other,
            };
            match there {
                None => Ok(Target::Absent),
                Some((EntryKind::Dir, _)) => Ok(Target::Dir),
                Some((EntryKind::Symlink { target }, _)) => Ok(Target::link(target)),
                Some(_) => Err(refuse(raw, format!("{path} is not a directory"))),
            }
        };
        let at = match resolve::resolve(b"", raw.as_bytes(), Last::Follow, lookup) {
            Ok(at) => RelPath::from_clean(&at),
            Err(resolve::Error::Lookup(error)) => return Err(error),
            Err(resolve::Error::Loop) => return Err(refuse(raw, "too many levels of symbolic links")),
            Err(resolve::Error::NotADirectory(path)) => {
                return Err(refuse(raw, format!("{} is not a directory", RelPath::from_clean(&path))));
            }
        };
        if !self.imply_parents(&at, make)? {
            return Ok(None);
        }
        self.last = Some((raw.clone(), at.clone()));
        Ok(Some(at))
    }

    /// Implies `dir` and its parents where they are missing; without `make`, returns whether they exist.
    fn imply_parents(&mut self, dir: &RelPath, make: bool) -> Result<bool, Error> {
        let mut missing = Vec::new();
        let mut up = Some(dir.clone());
        while let Some(at) = up.filter(|d| !d.is_root() && !self.entries.contains_key(d) && !self.implied.contains(d)) {
            if at.name().starts_with(tar_write::WHITEOUT) {
                return Err(refuse(&at, "a directory cannot have the name of a whiteout"));
            }
            up = at.parent();
            missing.push(at);
        }
        if !make {
            return Ok(missing.is_empty());
        }
        missing.iter().try_for_each(|dir| self.imply(dir)).map(|()| true)
    }

    /// Forgets `path` and everything below it.
    fn remove_subtree(&mut self, path: &RelPath) {
        self.last = None;
        let mut sets = [&mut self.implied, &mut self.whiteouts, &mut self.opaque];
        for (at, set) in sets.iter_mut().enumerate() {
            // A deletion at the path itself still holds for a directory that comes later.
            let gone = set.range(path.clone()..).take_while(|p| p.is_within(path)).filter(|p| at == 0 || *p != path);
            for path in gone.cloned().collect::<Vec<_>>() {
                set.remove(&path);
            }
        }
        let gone: Vec<RelPath> =
            self.entries.range(path.clone()..).take_while(|(p, _)| p.is_within(path)).map(|(p, _)| p.clone()).collect();
        for path in gone {
            self.remove(&path);
        }
    }

    fn remove(&mut self, path: &RelPath) {
        let Some(entry) = self.entries.remove(path) else { return };
        if let EntryKind::Hardlink { target } = &entry.0 {
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
                entry.0 = EntryKind::Hardlink { target: heir.clone() };
            }
        }
        self.entries.insert(heir.clone(), entry);
        self.links.insert(heir, links);
    }

    /// Every directory, deepest first, with its metadata if it has an entry.
    pub(super) fn dirs_deepest_first(&self) -> Vec<(&RelPath, Option<&Meta>)> {
        let described = self.entries.iter().filter(|(_, entry)| entry.0 == EntryKind::Dir);
        let mut dirs: Vec<(&RelPath, Option<&Meta>)> = described.map(|(path, entry)| (path, Some(&*entry.1))).collect();
        dirs.extend(self.implied.iter().map(|path| (path, None)));
        dirs.sort_by(|a, b| b.0.cmp(a.0));
        dirs
    }

    /// Paths that the layer deletes without an entry of its own there.
    pub(super) fn whiteouts(&self) -> impl Iterator<Item = &RelPath> {
        self.whiteouts.iter().filter(|path| !self.entries.contains_key(path) && !self.implied.contains(path))
    }

    /// Directories that hide those of lower layers: marked opaque, or deleted and created again.
    pub(super) fn opaque(&self) -> BTreeSet<&RelPath> {
        let is_dir = |path: &&RelPath| {
            path.is_root()
                || self.implied.contains(path)
                || self.at(path).is_some_and(|(kind, _)| *kind == EntryKind::Dir)
        };
        self.opaque.union(&self.whiteouts).filter(is_dir).collect()
    }

    /// Stores the digest of a file.
    pub(super) fn set_content(&mut self, path: &RelPath, digest: ContentDigest) {
        if let Some(EntryKind::File { content, .. }) = self.entries.get_mut(path).map(|entry| &mut entry.0) {
            *content = Some(digest);
        }
    }

    /// The finished tree: the first name in order is the file, the others are links with its metadata.
    pub(super) fn into_tree(mut self) -> Tree {
        let mut markers: Vec<Entry> = self.whiteouts().cloned().map(Entry::whiteout).collect();
        markers.extend(self.opaque().into_iter().cloned().map(Entry::opaque));
        // A directory that is deleted and implied again has no metadata of the one below (N-4).
        let remade = self.implied.intersection(&self.whiteouts).cloned();
        markers.extend(remade.map(|path| Entry::new(path, EntryKind::Dir, Meta::with_mode(0o755))));
        let groups = std::mem::take(&mut self.links);
        for (file, links) in groups {
            let Some(first) = links.first().filter(|first| **first < file) else { continue };
            let Some(entry) = self.entries.remove(&file) else { continue };
            let link = || Box::new((EntryKind::Hardlink { target: first.clone() }, Arc::clone(&entry.1)));
            self.entries.insert(file.clone(), link());
            for path in links.iter().skip(1) {
                self.entries.insert(path.clone(), link());
            }
            self.entries.insert(first.clone(), entry);
        }
        let mut all = Vec::with_capacity(self.entries.len() + markers.len());
        all.extend(self.entries.into_iter().map(|(path, entry)| {
            let (kind, meta) = *entry;
            Entry::new(path, kind, Arc::unwrap_or_clone(meta))
        }));
        all.extend(markers);
        Tree::new(all)
    }
}

fn refuse(path: &RelPath, reason: impl Into<String>) -> Error {
    Error::Entry { path: path.clone(), reason: reason.into() }
}
