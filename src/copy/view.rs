//! The destination while files are being placed: its files, and those placed so far.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::resolve::{self, Last, Target};
use crate::base::time::Timestamp;
use crate::layer::{Entry, EntryKind, MergedTree, Meta, RelPath, ResolveError};

use super::Error;
use super::occupant::Occupant;
use super::owner::Owner;

/// Directories that are writable for everybody, with mode 1777.
const WORLD_WRITABLE: [&[u8]; 2] = [b"tmp", b"var/tmp"];

/// A selected file, by index: an instruction may select very many, and paths and metadata are kept once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    item: u32,
    selected: u32,
    /// Index below it; `None`: the selected file itself.
    below: Option<u32>,
}

impl Origin {
    /// The `selected`th of item `item`.
    pub(super) fn new(item: usize, selected: usize) -> Self {
        Self { item: item as u32, selected: selected as u32, below: None }
    }

    /// The `below`th of those below it.
    pub(super) fn below(self, below: usize) -> Self {
        Self { below: Some(below as u32), ..self }
    }

    pub(super) fn item(self) -> usize {
        self.item as usize
    }

    pub(super) fn selected(self) -> usize {
        self.selected as usize
    }

    pub(super) fn inside(self) -> Option<usize> {
        self.below.map(|below| below as usize)
    }
}

/// The source of a placed file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// It has none.
    None,
    /// None, and no entry either: a directory that is only passed through.
    Passed,
    /// A file of a source.
    Tree(Origin),
    /// The file of the destination at this path.
    Dest(RelPath),
    /// Bytes at an offset of the `spool`th unpacked archive.
    Spool { spool: usize, at: u64 },
}

/// A future entry of the layer.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) kind: EntryKind,
    pub(super) meta: Meta,
    pub(super) data: Data,
    /// Equal for names of one file (C-12).
    pub(super) inode: Option<(usize, u64, u64)>,
}

/// The destination's tree with the placed files over it.
pub(super) struct View<'a> {
    dest: &'a MergedTree,
    /// Boxed: a map that is filled in order leaves half of its room for values empty.
    placed: BTreeMap<RelPath, Box<Placed>>,
    /// Directories of the destination that were replaced, even if a directory was placed there again.
    cut: BTreeSet<RelPath>,
    /// How many files have several names.
    names: u64,
    /// For `--link`: the destination is unknown (C-19), except for these directories.
    blind: Option<&'a [RelPath]>,
}

/// Owner and mode of directories that are made because something goes into them.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewDir {
    pub(super) owner: Owner,
    pub(super) mode: u32,
}

impl NewDir {
    /// Mode 0755 and owned by `owner`.
    pub(super) fn of(owner: Owner) -> Self {
        Self { owner, mode: 0o755 }
    }
}

impl<'a> View<'a> {
    pub(super) fn new(dest: &'a MergedTree) -> Self {
        Self { dest, placed: BTreeMap::new(), cut: BTreeSet::new(), names: 0, blind: None }
    }

    /// The same for a layer that may lie over another file system than `dest`, in which `passed` are directories.
    pub(super) fn linked(dest: &'a MergedTree, passed: &'a [RelPath]) -> Self {
        Self { blind: Some(passed), ..Self::new(dest) }
    }

    /// Kind and metadata of what is at `path`. Symlinks are not followed.
    pub(super) fn get(&self, path: &RelPath) -> Option<(&EntryKind, &Meta)> {
        if let Some(placed) = self.placed.get(path) {
            return Some((&placed.kind, &placed.meta));
        }
        if !self.cut.is_empty() && self.is_cut(path) {
            return None;
        }
        self.dest.get(path).map(|found| (found.kind(), found.meta()))
    }

    /// Whether `path` is in a replaced directory. Looks up each parent, because an archive may replace very many (S-39).
    fn is_cut(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(dir) = at {
            if self.cut.contains(&dir) {
                return true;
            }
            at = dir.parent();
        }
        false
    }

    pub(super) fn is_dir(&self, path: &RelPath) -> bool {
        matches!(self.get(path), Some((EntryKind::Dir, _)))
    }

    /// Where `path` leads, every symlink followed inside the root, the last one too (C-8, S-95). What does not exist
    /// is kept as written.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<RelPath, Error> {
        self.resolve_below(&RelPath::root(), path)
    }

    /// The same for a path in an archive that is unpacked to directory `top`. The archive's own links stay below it, as
    /// after a chroot: for them `/` is `top`, and `..` does not lead out of it. Links that were there before mean the root.
    pub(super) fn resolve_below(&self, top: &RelPath, path: &[u8]) -> Result<RelPath, Error> {
        let text = || String::from_utf8_lossy(path).into_owned();
        let lookup = |path: &[u8]| {
            if path.contains(&0) {
                return Err(ResolveError::Invalid(text()));
            }
            let path = RelPath::from_clean(path);
            Ok(match self.get(&path) {
                None => Target::Absent,
                Some((EntryKind::Dir, _)) => Target::Dir,
                Some((EntryKind::Symlink { target }, _)) if self.placed.contains_key(&path) => {
                    Target::Link { to: target.clone(), top: top.as_bytes().to_vec() }
                }
                Some((EntryKind::Symlink { target }, _)) => Target::link(target),
                Some(_) => Target::Other,
            })
        };
        let failed = match resolve::resolve(top.as_bytes(), path, Last::Follow, lookup) {
            Ok(path) => return Ok(RelPath::from_clean(&path)),
            Err(resolve::Error::Lookup(error)) => error,
            Err(resolve::Error::Loop) => ResolveError::Loop(text()),
            Err(resolve::Error::NotADirectory(path)) => ResolveError::NotADirectory(RelPath::from_clean(&path)),
        };
        Err(failed.into())
    }

    /// Makes `path` and its parents where they are missing, at the epoch (C-6).
    pub(super) fn ensure_dir(&mut self, path: &RelPath, new: NewDir) -> Result<(), Error> {
        if path.is_root() || self.is_dir(path) {
            return Ok(());
        }
        if let Some((kind, _)) = self.get(path) {
            return Err(Error::NotADirectory { path: path.clone(), occupant: Occupant::of(kind) });
        }
        self.ensure_dir(&path.parent().unwrap_or_default(), new)?;
        if self.blind.is_some_and(|passed| passed.contains(path)) {
            self.pass(path.clone());
            return Ok(());
        }
        // Images have these directories writable for everybody; a linked layer must not change that.
        let NewDir { owner, mode } = match self.blind.is_some() && WORLD_WRITABLE.contains(&path.as_bytes()) {
            true => NewDir { owner: Owner::default(), mode: 0o1777 },
            false => new,
        };
        let mut meta = Meta { uid: owner.uid, gid: owner.gid, ..Meta::with_mode(mode) };
        meta.mtime = Timestamp::EPOCH;
        self.put(path.clone(), Placed { kind: EntryKind::Dir, meta, data: Data::None, inode: None });
        Ok(())
    }

    /// Makes directories that an archive has no entries for; root owns them (N-29). A linked layer has no entries for them
    /// either: unpacking it makes missing ones the same way.
    pub(super) fn imply_dir(&mut self, path: &RelPath) -> Result<(), Error> {
        if self.blind.is_none() {
            return self.ensure_dir(path, NewDir::of(Owner::default()));
        }
        let mut at = Some(path.clone());
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            match self.get(&dir) {
                Some((EntryKind::Dir, _)) => break,
                Some((kind, _)) => return Err(Error::NotADirectory { occupant: Occupant::of(kind), path: dir }),
                None => self.pass(dir.clone()),
            }
            at = dir.parent();
        }
        Ok(())
    }

    /// Makes `path` a directory without an entry.
    fn pass(&mut self, path: RelPath) {
        self.put(path, Placed { kind: EntryKind::Dir, meta: Meta::with_mode(0o755), data: Data::Passed, inode: None });
    }

    /// Places something at `path`, whose parent is a directory. The caller checks that a directory is replaced by a directory
    /// only.
    pub(super) fn put(&mut self, path: RelPath, placed: Placed) {
        self.placed.insert(path, Box::new(placed));
    }

    /// Removes `path` with everything below (archives only, S-34).
    pub(super) fn clear(&mut self, path: &RelPath) {
        let below = self.placed.range(path.clone()..).map(|(placed, _)| placed).take_while(|p| p.is_within(path));
        for placed in below.cloned().collect::<Vec<_>>() {
            self.placed.remove(&placed);
        }
        if self.dest.get(path).is_some_and(|found| found.is_dir()) {
            self.cut.insert(path.clone());
        }
    }

    /// Another name for the file at `target`. `None`: it is a directory, or does not exist.
    pub(super) fn link(&mut self, target: &RelPath) -> Option<Placed> {
        if self.is_dir(target) {
            return None;
        }
        if !self.placed.contains_key(target) {
            // Both names must be in the layer, or they would not be one file.
            let (kind, meta) = self.get(target)?;
            let data = if matches!(kind, EntryKind::File { .. }) { Data::Dest(target.clone()) } else { Data::None };
            let placed = Placed { kind: kind.clone(), meta: meta.clone(), data, inode: None };
            self.placed.insert(target.clone(), Box::new(placed));
        }
        let placed = self.placed.get_mut(target)?;
        if placed.inode.is_none() {
            self.names += 1;
            placed.inode = Some((usize::MAX, 0, self.names));
        }
        Some(Placed::clone(placed))
    }

    /// The entries of the layer, in order: what was placed, and the directories above it with the metadata that they have. The
    /// first name of a file is the file, the others are its hard links.
    pub(super) fn finish(mut self) -> (Vec<Entry>, Vec<Data>) {
        self.placed.retain(|_, placed| placed.data != Data::Passed);
        let mut parents = BTreeSet::new();
        // Files of one directory follow each other: its parents are looked for once.
        let mut seen: &[u8] = b"";
        for path in self.placed.keys() {
            let above = path.dir_bytes();
            if std::mem::replace(&mut seen, above) == above {
                continue;
            }
            let mut at = path.parent();
            while let Some(dir) = at.filter(|dir| !dir.is_root() && !self.placed.contains_key(dir)) {
                at = dir.parent();
                if !parents.insert(dir) {
                    break;
                }
            }
        }
        for dir in parents {
            if let Some(found) = self.dest.get(&dir) {
                let (kind, meta) = (EntryKind::Dir, found.meta().clone());
                self.put(dir, Placed { kind, meta, data: Data::None, inode: None });
            }
        }
        let mut first: BTreeMap<(usize, u64, u64), RelPath> = BTreeMap::new();
        let mut entries = Vec::with_capacity(self.placed.len());
        let mut contents = Vec::with_capacity(self.placed.len());
        let mut add = |entry, data| {
            entries.push(entry);
            contents.push(data);
        };
        for (path, placed) in self.placed {
            let placed = *placed;
            let opaque = placed.kind == EntryKind::Dir && self.cut.contains(&path);
            let opaque = opaque.then(|| Entry::opaque(path.clone()));
            let entry = match placed.inode.map(|inode| first.entry(inode)) {
                Some(std::collections::btree_map::Entry::Occupied(target)) => {
                    let kind = EntryKind::Hardlink { target: target.get().clone() };
                    add(Entry::new(path, kind, placed.meta), Data::None);
                    continue;
                }
                Some(std::collections::btree_map::Entry::Vacant(slot)) => {
                    slot.insert(path.clone());
                    Entry::new(path, placed.kind, placed.meta)
                }
                None => Entry::new(path, placed.kind, placed.meta),
            };
            add(entry, placed.data);
            if let Some(opaque) = opaque {
                add(opaque, Data::None);
            }
        }
        (entries, contents)
    }
}
