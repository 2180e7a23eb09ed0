//! The changes of a step: an overlay's upper directory, or a whole tree, compared with the layers below.
//!
//! **Holds.** Both are walked (`walk`) and then compared with the merged tree in one way, so a layer has the same bytes with
//! overlayfs and with the copy fallback. Deletions are always explicit whiteouts, also where overlayfs made a directory
//! opaque; files that were copied up unchanged are left out; the parents of changes are included with their true metadata
//! . Sockets and attributes of the host are left out.
//! **Order.** The command has ended: nothing writes to the directory. Files are opened when the layer is written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::base::digest::{Hasher, Sha256};
use crate::base::rooted::Root;
use crate::base::sparse::{Run, SparseFile, drain, read_full};
use crate::base::time::Timestamp;

use super::disk;
use super::entry::{Entry, EntryKind, RelPath};
use super::error::Error;
use super::leftovers::Leftovers;
use super::merged::{MergedEntry, MergedTree};
use super::pipeline::Output;
use super::walk::{Baseline, Item, Walked};
use super::writer::LayerWriter;

/// Opens files of lower layers, to tell an unchanged file that was copied up from a changed one.
pub trait LowerFiles {
    /// Opens the file at `path` in layer number `layer`, counted from the bottom. `None`: the file counts as changed.
    fn open(&self, layer: usize, path: &RelPath) -> Option<File>;
}

impl LowerFiles for () {
    fn open(&self, _: usize, _: &RelPath) -> Option<File> {
        None
    }
}

/// The changes found below one directory, sorted; files are still on disk.
#[derive(Debug)]
pub struct Changes {
    root: OwnedFd,
    entries: Vec<Entry>,
    /// Files in an upper directory that are no changes, sorted.
    left_out: Vec<RelPath>,
    /// One of them is where the layers below are hidden.
    left_in_hidden: bool,
}

/// The changes in a whole tree over `lower`: the copy fallback. With a `baseline` of the tree as it was before, only
/// what was touched is compared. Times later than `latest` count as that.
pub fn tree_changes(
    after: &Root,
    lower: &MergedTree,
    files: &dyn LowerFiles,
    baseline: Option<&Baseline>,
    latest: Option<Timestamp>,
) -> Result<Changes, Error> {
    Walked::tree(after)?.changes(after, lower, files, baseline, latest)
}

impl Walked {
    /// What was found in `root`, compared with `lower`. With a `baseline`, only what was touched since is compared.
    /// Times later than `latest` count as that.
    pub(crate) fn changes(
        self,
        root: &Root,
        lower: &MergedTree,
        files: &dyn LowerFiles,
        baseline: Option<&Baseline>,
        latest: Option<Timestamp>,
    ) -> Result<Changes, Error> {
        let Walked { mut items, gone, replaced, .. } = self;
        items.sort_by(|a, b| a.path.cmp(&b.path));
        super::origin::complete(&mut items, lower)?;
        for item in &mut items {
            item.meta.mtime = item.meta.mtime.capped(latest);
            item.untouched = baseline.is_some_and(|b| b.identity(&item.path) == Some(item.identity))
                && lower.get(&item.path).is_some();
        }
        let deleted = gone.into_iter().filter(|path| lower.get(path).is_some()).collect();
        let mut found = Finder { lower, files, latest, items, deleted };
        for dir in &replaced {
            found.deleted_below(dir, baseline);
        }
        let mut changes = found.finish(root)?;
        match baseline {
            None => {
                let hidden = |path: &RelPath| replaced.iter().any(|dir| path.is_within(dir) && path != dir);
                changes.left_in_hidden = changes.left_out.iter().any(hidden);
            }
            // A whole root: all that a command did not touch.
            Some(_) => changes.left_out.clear(),
        }
        Ok(changes)
    }
}

/// All of a tree, including the directory itself, as changes to an empty root.
pub(crate) fn whole_tree(root: &Root) -> Result<Changes, Error> {
    let mut changes = tree_changes(root, &MergedTree::new(), &(), None, None)?;
    let top = RelPath::root();
    let node = disk::look(root.as_fd(), OsStr::new(".")).map_err(|e| Error::system("stat", &top, e))?;
    changes.entries.insert(0, Entry::new(top, EntryKind::Dir, node.meta));
    Ok(changes)
}

struct Finder<'a> {
    lower: &'a MergedTree,
    files: &'a dyn LowerFiles,
    latest: Option<Timestamp>,
    items: Vec<Item>,
    deleted: Vec<RelPath>,
}

impl Finder<'_> {
    /// `dir` hides the layers below: what it does not have itself is deleted.
    fn deleted_below(&mut self, dir: &RelPath, baseline: Option<&Baseline>) {
        // Otherwise it is a device that could not be created here.
        let was_there = |path: &RelPath| baseline.is_none_or(|before| before.identity(path).is_some());
        let mut todo = vec![dir.clone()];
        while let Some(dir) = todo.pop() {
            for child in self.lower.children(&dir) {
                match self.items.binary_search_by(|i| i.path.cmp(child.path())) {
                    Err(_) if !was_there(child.path()) => {}
                    Err(_) => self.deleted.push(child.path().clone()),
                    Ok(at) if child.is_dir() && self.items[at].kind == EntryKind::Dir => {
                        todo.push(child.path().clone())
                    }
                    Ok(_) => {}
                }
            }
        }
    }

    fn finish(mut self, root: &Root) -> Result<Changes, Error> {
        let mut changed = Vec::with_capacity(self.items.len());
        for item in &self.items {
            changed.push(!item.untouched && !self.is_as_before(root, item)?);
        }
        let links = self.links(&mut changed);
        // Every change needs its parents.
        let mut parents: BTreeSet<RelPath> = BTreeSet::new();
        self.deleted.sort();
        self.deleted.dedup();
        let emitted = self.items.iter().zip(&changed).filter(|(_, c)| **c).map(|(i, _)| &i.path);
        for path in emitted.chain(&self.deleted) {
            let mut up = path.parent();
            while let Some(dir) = up.filter(|d| !d.is_root()) {
                up = dir.parent();
                if !parents.insert(dir) {
                    break;
                }
            }
        }
        let mut left_out = Vec::new();
        let mut entries: Vec<Entry> = self.deleted.drain(..).map(Entry::whiteout).collect();
        for (at, item) in self.items.into_iter().enumerate() {
            if changed[at] || (item.kind == EntryKind::Dir && parents.contains(&item.path)) {
                let kind = match links.get(&at) {
                    Some(first) => EntryKind::Hardlink { target: first.clone() },
                    None => item.kind,
                };
                entries.push(Entry::new(item.path, kind, item.meta));
            } else {
                left_out.push(item.path);
            }
        }
        entries.sort_by(Entry::order);
        // Whiteouts below a whiteout, or below what is no directory any more, have no effect.
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        let mut gone: Option<RelPath> = None;
        for entry in entries {
            if let (Some(top), EntryKind::Whiteout) = (&gone, &entry.kind)
                && entry.path.is_within(top)
            {
                continue;
            }
            if entry.kind != EntryKind::Dir {
                gone = Some(entry.path.clone());
            }
            kept.push(entry);
        }
        let fd =
            disk::open_dir(root.as_fd(), OsStr::new(".")).map_err(|e| Error::system("open", &RelPath::root(), e))?;
        Ok(Changes { root: fd, entries: kept, left_out, left_in_hidden: false })
    }

    /// Files with several names: if one name is new, all names here are in the layer, the first as the file, the others as
    /// links to it. Returns the links by position.
    fn links(&self, changed: &mut [bool]) -> BTreeMap<usize, RelPath> {
        let mut groups: BTreeMap<((u32, u32), u64), Vec<usize>> = BTreeMap::new();
        for (at, item) in self.items.iter().enumerate() {
            if item.identity.nlink > 1 && item.kind != EntryKind::Dir {
                groups.entry((item.identity.dev, item.identity.ino)).or_default().push(at);
            }
        }
        let mut links = BTreeMap::new();
        for group in groups.into_values().filter(|g| g.len() > 1) {
            let below: Vec<Option<(Option<usize>, &RelPath)>> = group
                .iter()
                .map(|&at| self.lower.get(&self.items[at].path).map(|f| (f.layer, &f.inode().path)))
                .collect();
            let linked_before = below[0].is_some() && below.windows(2).all(|w| w[0] == w[1]);
            if !linked_before || group.iter().any(|&at| changed[at]) {
                for &at in &group {
                    changed[at] = true;
                }
                for &at in &group[1..] {
                    links.insert(at, self.items[group[0]].path.clone());
                }
            }
        }
        links
    }

    /// Whether the layers below have exactly this: it was copied up, but not changed.
    fn is_as_before(&self, root: &Root, item: &Item) -> Result<bool, Error> {
        let Some(found) = self.lower.get(&item.path) else { return Ok(false) };
        let (old, new) = (found.meta(), &item.meta);
        let same_owner_and_time = (old.uid, old.gid, old.mtime.capped(self.latest)) == (new.uid, new.gid, new.mtime);
        let same_meta = old.mode & 0o7777 == new.mode && same_owner_and_time && old.xattrs == new.xattrs;
        match (found.kind(), &item.kind) {
            (EntryKind::Symlink { target: was }, EntryKind::Symlink { target: is }) => {
                Ok(was == is && same_owner_and_time)
            }
            _ if !same_meta => Ok(false),
            (EntryKind::File { size: was, .. }, EntryKind::File { size: is, .. }) => {
                Ok(was == is && self.same_content(root, item, found)?)
            }
            (was, is) => Ok(was == is),
        }
    }

    fn same_content(&self, root: &Root, item: &Item, found: MergedEntry<'_>) -> Result<bool, Error> {
        let EntryKind::File { size, content } = *found.kind() else { return Ok(false) };
        if size == 0 {
            return Ok(true);
        }
        let read = |source| Error::Read { path: item.path.clone(), source };
        let open = || disk::open_file(root.as_fd(), &item.path).map(File::from).map_err(read);
        if let Some(digest) = content {
            return Ok(digest_of_file(open()?, size).map_err(read)? == digest.0);
        }
        match found.layer.and_then(|layer| self.files.open(layer, &found.inode().path)) {
            Some(below) => equal(open()?, below, size).map_err(read),
            None => Ok(false),
        }
    }
}

impl Changes {
    /// What changed, in layer order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What has to go from an upper directory before it can be the unpacked layer.
    pub(crate) fn leftovers(self) -> Leftovers {
        Leftovers { root: self.root, paths: self.left_out, needed: self.left_in_hidden }
    }

    /// Opens one of its files.
    pub(super) fn open(&self, path: &RelPath) -> io::Result<OwnedFd> {
        disk::open_file(self.root.as_fd(), path)
    }

    /// Appends every change, with its content, to `writer`.
    pub(crate) fn write_to<W: Output>(&self, writer: &mut LayerWriter<W>) -> Result<(), Error> {
        let mut dirs = DirCache::default();
        for entry in &self.entries {
            if let EntryKind::File { size: size @ 1.., .. } = entry.kind {
                let file = dirs.open(&self.root, &entry.path).map_err(|e| Error::system("open", &entry.path, e))?;
                writer.append(entry.clone(), &mut SparseFile::new(file, size))?;
            } else {
                writer.append_empty(entry.clone())?;
            }
        }
        Ok(())
    }
}

/// Keeps the directory of the last file open: the next file is usually in it.
#[derive(Default)]
struct DirCache(Option<(RelPath, OwnedFd)>);

impl DirCache {
    fn open(&mut self, root: &OwnedFd, path: &RelPath) -> io::Result<OwnedFd> {
        let parent = path.parent().unwrap_or_default();
        if self.0.as_ref().is_none_or(|(dir, _)| *dir != parent) {
            self.0 = Some((parent.clone(), disk::open_dir_at(root.as_fd(), &parent)?));
        }
        let name = RelPath::root().join(path.name());
        match &self.0 {
            Some((_, dir)) => disk::open_file(dir.as_fd(), &name),
            None => disk::open_file(root.as_fd(), path),
        }
    }
}

/// The digest of a file, which is said to be `size` bytes long.
pub(crate) fn digest_of_file(file: File, size: u64) -> io::Result<Sha256> {
    let mut hasher = Hasher::new();
    drain::<io::Error>(&mut SparseFile::new(file, size), &mut vec![0; 64 << 10], |run| {
        match run {
            Run::Bytes(bytes) => hasher.update(bytes),
            Run::Zeros(count) => hasher.zeros(count),
        }
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// Whether two files, the first of which is said to be `size` bytes long, have the same bytes.
fn equal(a: File, b: File, size: u64) -> io::Result<bool> {
    let (mut a, mut b) = (SparseFile::new(a, size), SparseFile::new(b, size));
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let got = (read_full(&mut a, &mut left)?, read_full(&mut b, &mut right)?);
        if got.0 != got.1 || left[..got.0] != right[..got.1] {
            return Ok(false);
        }
        if got.0 < left.len() {
            return Ok(true);
        }
    }
}
