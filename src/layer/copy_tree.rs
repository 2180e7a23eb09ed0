//! A chain of layers copied into one directory: the root of a step without overlayfs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::base::rooted::Root;

use super::disk;
use super::entry::{EntryKind, Meta, RelPath};
use super::error::Error;
use super::fill::{Filler, copy};
use super::links;
use super::merged::{MergedEntry, MergedTree};

/// Copies what `merged` shows into the empty directory `dest`. `layer_dirs` are the unpacked layers, bottom first.
///
/// Ok: `dest` shows what the chain does, with owners, devices and attributes where this host allows them. Files share their
/// blocks with the layers where the file system supports that.
pub fn copy_tree(merged: &MergedTree, layer_dirs: &[PathBuf], dest: &Path) -> Result<(), Error> {
    let roots = layer_dirs.iter().map(|dir| open(dir)).collect::<Result<Vec<_>, _>>()?;
    let mut filler = Filler::new(dest, None)?;
    // Files by layer and first name, with the name they have here.
    let mut copied: BTreeMap<(usize, &RelPath), &RelPath> = BTreeMap::new();
    let mut dirs: Vec<(&RelPath, &Meta)> = Vec::new();
    for found in merged.iter() {
        let (path, meta) = (found.path(), found.meta());
        let inode = found.layer.map(|layer| (layer, &found.inode().path));
        if let Some(first) = inode.and_then(|inode| copied.get(&inode)) {
            filler.put(path, &EntryKind::Hardlink { target: (*first).clone() }, meta, false)?;
            continue;
        }
        match found.kind() {
            EntryKind::Dir => {
                filler.put(path, &EntryKind::Dir, meta, false)?;
                dirs.push((path, meta));
                continue;
            }
            EntryKind::File { size, .. } => {
                let source = inode.and_then(|(layer, name)| Some((roots.get(layer)?, name)));
                let from = match source {
                    Some((root, name)) => disk::open_file(root.as_fd(), name),
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                let from = File::from(from.map_err(|source| Error::Read { path: path.clone(), source })?);
                filler.file(path, meta, false, |to| copy(&from, to, *size, path))?;
            }
            other => filler.put(path, other, meta, false)?,
        }
        if let Some(inode) = inode {
            copied.insert(inode, path);
        }
    }
    for (path, meta) in dirs.iter().rev() {
        filler.seal(path, Some(meta))?;
    }
    Ok(())
}

/// Gives each file of `dest`, which [`copy_tree`] filled, as many names in the empty directory `beside` as layers above hide:
/// overlayfs counts these names too.
pub(crate) fn keep_counts(merged: &MergedTree, dest: &Path, beside: &Path) -> Result<(), Error> {
    let counts = links::counts(merged);
    if counts.is_empty() {
        return Ok(());
    }
    let root = Root::open(dest).map_err(|e| Error::system("open", &RelPath::root(), e))?;
    let outside = Root::open(beside).map_err(|e| Error::system("open", &RelPath::root(), e))?;
    let mut visible: BTreeMap<(usize, &RelPath), (&RelPath, usize)> = BTreeMap::new();
    for found in merged.iter() {
        if let Some(layer) = found.layer {
            visible.entry((layer, &found.inode().path)).or_insert((found.path(), 0)).1 += 1;
        }
    }
    let mut number = 0;
    for (inode, (name, shown)) in visible {
        for _ in shown..counts.get(&inode).copied().unwrap_or(0) {
            let parent = name.parent().unwrap_or_default();
            let dir = disk::open_dir_at(root.as_fd(), &parent).map_err(|e| Error::system("open", name, e))?;
            links::hold(dir.as_fd(), name, &outside, &number.to_string())?;
            number += 1;
        }
    }
    Ok(())
}

fn open(dir: &Path) -> Result<OwnedFd, Error> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, rustix::fs::Mode::empty())
        .map_err(|e| Error::system("open", &RelPath::root(), e.into()))
}

/// Notes what `merged` says of `dir`, if it is one there, and of those above it.
fn describe<'a>(merged: &'a MergedTree, dir: RelPath, dirs: &mut BTreeMap<RelPath, &'a Meta>) {
    let mut up = Some(dir);
    while let Some(dir) = up.filter(|d| !d.is_root()) {
        up = dir.parent();
        if let Some(found) = merged.get(&dir).filter(MergedEntry::is_dir) {
            dirs.insert(dir, found.meta());
        }
    }
}

/// Directories with whiteouts. Overlayfs looks for whiteouts only in directories that it merges, and would list those in
/// others, where no layer below has the directory. The same directory in one more layer makes it merge.
fn deleted_from(merged: &MergedTree) -> BTreeSet<RelPath> {
    let entries = merged.layers().iter().flat_map(|layer| layer.entries());
    entries.filter(|entry| entry.kind == EntryKind::Whiteout).filter_map(|entry| entry.path.parent()).collect()
}

/// Gives the empty upper directory of an overlay over all of `merged` what the lower directories cannot say: the
/// metadata of `/`, and of directories that a layer has no entry for (`Tree::implied_dirs`). Unpacked, such a layer has
/// them with mode 0755, which would hide what the layers below say.
///
/// Ok: an overlay with this upper looks as `merged` does, and has no changes.
pub fn prepare_upper(merged: &MergedTree, upper: &Path) -> Result<(), Error> {
    let mut filler = Filler::new(upper, None)?;
    let mut dirs: BTreeMap<RelPath, &Meta> = BTreeMap::new();
    for (number, layer) in merged.layers().iter().enumerate().skip(1) {
        for dir in layer.implied_dirs() {
            if merged.get(&dir).is_some_and(|found| found.is_dir() && found.layer.is_some_and(|below| below < number)) {
                describe(merged, dir, &mut dirs);
            }
        }
    }
    for dir in deleted_from(merged) {
        describe(merged, dir, &mut dirs);
    }
    let root = merged.get(&RelPath::root()).filter(|f| f.layer.is_some());
    dirs.extend(root.map(|found| (RelPath::root(), found.meta())));
    for (path, meta) in &dirs {
        filler.put(path, &EntryKind::Dir, meta, false)?;
    }
    for (path, meta) in dirs.iter().rev() {
        filler.seal(path, Some(meta))?;
    }
    Ok(())
}
