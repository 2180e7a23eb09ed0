//! Files with several names, where a root is a copy.
//!
//! **Holds.** Overlayfs copies a file up under the one name it is changed, linked or moved by; its other names stay with
//! the file below. In a copy of the layers all names are one file, and what is done to one is done to all. Which name
//! it was cannot be seen afterwards, and names that are files of their own from the start are read otherwise than linked ones
//! (`tar`, `cp -a`). So a command first runs with every link kept; if [`Apart::again`] says that it changed such a file,
//! it runs once more with that file's names apart, which shows the names that overlayfs would have copied up; if others
//! are left, a last time with only those apart.
//! **Not here.** Running commands.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::rooted::Root;

use super::changes::{Baseline, LowerFiles, is_unchanged, walk};
use super::disk::{self, Identity, Node};
use super::entry::{Kind, RelPath};
use super::error::Error;
use super::fill::system;
use super::merged::{Found, MergedTree};

/// A file of one layer: the layer's number and the file's first name there.
type Inode<'a> = (usize, &'a RelPath);
/// Names by what they are on disk.
type OnDisk = ((u32, u32), u64);

/// Which names of one file are files of their own in a copied root; by default none.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// Names with the same number stay linked, as do those with none.
    blocks: BTreeMap<RelPath, usize>,
    /// Files, by their first visible name, that are not as the layers have them.
    stages: BTreeMap<RelPath, Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Every name is apart, to see which are changed.
    Looking,
    /// Only those are.
    Settled,
}

/// How a name that a file has now came about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Stayed,
    /// A directory was moved with it.
    Carried(RelPath, RelPath),
    New,
}

impl Apart {
    /// The block of `name` among the names of its file.
    pub(super) fn block(&self, name: &RelPath) -> usize {
        self.blocks.get(name).copied().unwrap_or(0)
    }

    /// Whether the command that left `after`, a copy of `lower` with these names apart that looked as `before`, must run
    /// again on another copy to leave what it would leave on overlayfs: with which names apart, and because of which.
    pub fn again(
        &self,
        after: &Root,
        lower: &MergedTree,
        files: &dyn LowerFiles,
        before: &Baseline,
    ) -> Result<Option<(Apart, RelPath)>, Error> {
        let mut suspects = Vec::new();
        for names in groups(lower).into_values() {
            if self.stages.get(names[0]) == Some(&Stage::Settled) {
                continue;
            }
            for name in &names {
                if now(after, name)? != before.identity(name) {
                    suspects.push(names);
                    break;
                }
            }
        }
        if suspects.is_empty() {
            return Ok(None);
        }
        let seen = Seen::look(after, before, &suspects)?;
        let mut next = self.clone();
        let mut because = None;
        for names in suspects {
            if let Some((blocks, stage)) = self.retake(&seen, &names, after, lower, files, before)? {
                next.stages.insert(names[0].clone(), stage);
                for (name, block) in names.iter().zip(blocks) {
                    next.blocks.insert((*name).clone(), block);
                }
                because.get_or_insert_with(|| names[0].clone());
            }
        }
        Ok(because.map(|name| (next, name)))
    }

    /// How the names of one file are to be divided, if not as they are.
    fn retake(
        &self,
        seen: &Seen,
        names: &[&RelPath],
        after: &Root,
        lower: &MergedTree,
        files: &dyn LowerFiles,
        before: &Baseline,
    ) -> Result<Option<(Vec<usize>, Stage)>, Error> {
        let here = |name: &RelPath| before.identity(name).and_then(|i| seen.names.get(&on_disk(&i)));
        if self.stages.contains_key(names[0]) {
            // Unlinking a name copies nothing up, but it may have been changed before.
            let mut touched = Vec::new();
            for name in names {
                touched.push(now(after, name)? != before.identity(name));
            }
            let rest = touched.iter().filter(|t| !**t).count();
            let blocks = touched.iter().enumerate().map(|(i, touched)| if *touched { i + 1 } else { 0 }).collect();
            return Ok((rest > 1).then_some((blocks, Stage::Settled)));
        }
        let Some(found) = here(names[0]) else { return Ok(None) };
        let origins: BTreeMap<&RelPath, Origin> =
            found.iter().map(|(path, _)| (path, seen.origin(path, names))).collect();
        let kinds: BTreeSet<&Origin> = origins.values().collect();
        let apart = || Some(((1..=names.len()).collect(), Stage::Looking));
        if kinds.contains(&Origin::New) {
            return Ok(apart());
        }
        if kinds.len() > 1 {
            // Each directory took its names along, and those are still one file.
            let block = |name: &&RelPath| {
                let carried = kinds.iter().position(|kind| match kind {
                    Origin::Carried(from, _) => name.is_within(from),
                    _ => false,
                });
                carried.map_or(0, |at| at + 1)
            };
            return Ok(Some((names.iter().map(block).collect(), Stage::Settled)));
        }
        if kinds.contains(&Origin::Stayed) {
            let (path, node) = &found[0];
            if !is_unchanged(after, lower, files, path, node)? {
                return Ok(apart());
            }
        }
        Ok(None)
    }
}

/// What a root looks like after a command, of what matters here.
struct Seen {
    names: BTreeMap<OnDisk, Vec<(RelPath, Node)>>,
    dirs: BTreeMap<RelPath, OnDisk>,
    /// Where directories with names of such files were before.
    homes: BTreeMap<OnDisk, RelPath>,
}

impl Seen {
    fn look(after: &Root, before: &Baseline, groups: &[Vec<&RelPath>]) -> Result<Self, Error> {
        let mut names: BTreeMap<OnDisk, Vec<(RelPath, Node)>> = BTreeMap::new();
        let mut homes = BTreeMap::new();
        for name in groups.iter().flatten() {
            names.extend(before.identity(name).map(|i| (on_disk(&i), Vec::new())));
            let home = name.parent().unwrap_or_default();
            homes.extend(before.identity(&home).map(|i| (on_disk(&i), home)));
        }
        let mut dirs = BTreeMap::new();
        walk(after, |path, node| {
            let id = on_disk(&node.identity);
            if node.kind == Some(Kind::Dir) {
                dirs.insert(path.clone(), id);
            } else if let Some(paths) = names.get_mut(&id) {
                paths.push((path.clone(), node));
            }
            Ok(())
        })?;
        names.retain(|_, paths| !paths.is_empty());
        Ok(Self { names, dirs, homes })
    }

    fn origin(&self, path: &RelPath, names: &[&RelPath]) -> Origin {
        if names.contains(&path) {
            return Origin::Stayed;
        }
        let dir = path.parent().unwrap_or_default();
        let home = self.dirs.get(&dir).and_then(|id| self.homes.get(id));
        let Some(home) = home.filter(|home| names.contains(&&home.join(path.name()))) else { return Origin::New };
        let (mut from, mut to) = (home.clone(), dir);
        while from.name() == to.name()
            && let (Some(outer), Some(other)) = (from.parent(), to.parent())
            && outer != other
        {
            (from, to) = (outer, other);
        }
        Origin::Carried(from, to)
    }
}

/// The visible names of every file that has several.
fn groups(lower: &MergedTree) -> BTreeMap<Inode<'_>, Vec<&RelPath>> {
    let inode = |found: &Found<'_>| found.layer.filter(|_| !matches!(found.entry.kind, Kind::Dir));
    let linked = lower.iter().filter(|f| matches!(f.entry.kind, Kind::Hardlink { .. }));
    let mut groups: BTreeMap<Inode<'_>, Vec<&RelPath>> =
        linked.filter_map(|f| Some(((inode(&f)?, &f.inode().path), Vec::new()))).collect();
    if groups.is_empty() {
        return groups;
    }
    for found in lower.iter() {
        if let Some(names) = inode(&found).and_then(|layer| groups.get_mut(&(layer, &found.inode().path))) {
            names.push(found.path());
        }
    }
    groups.retain(|_, names| names.len() > 1);
    groups
}

/// How many names each file with several has in its own layer.
pub(super) fn counts(lower: &MergedTree) -> BTreeMap<Inode<'_>, usize> {
    let mut counts = BTreeMap::new();
    for (layer, tree) in lower.layers().iter().enumerate() {
        for entry in tree.entries() {
            if let Kind::Hardlink { target } = &entry.kind {
                *counts.entry((layer, target)).or_insert(1) += 1;
            }
        }
    }
    counts
}

/// Gives the file `path` below `root` another name outside of it, in `dir`.
pub(super) fn hold(root: &Root, path: &RelPath, dir: &Path, number: usize) -> Result<(), Error> {
    let fail = |e| system("link", path, e);
    let parent = disk::open_dir_at(root.as_fd(), &path.parent().unwrap_or_default()).map_err(fail)?;
    let outside = Root::open(dir).map_err(fail)?;
    let flags = rustix::fs::AtFlags::empty();
    match rustix::fs::linkat(&parent, OsStr::from_bytes(path.name()), outside.as_fd(), number.to_string(), flags) {
        // A device that could not be made here.
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(fail(e.into())),
    }
}

fn now(root: &Root, path: &RelPath) -> Result<Option<Identity>, Error> {
    use std::io::ErrorKind;
    let dir = match disk::open_dir_at(root.as_fd(), &path.parent().unwrap_or_default()) {
        Ok(dir) => dir,
        Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => return Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Ok(None),
        Err(e) => return Err(system("open", path, e)),
    };
    match disk::identify(dir.as_fd(), OsStr::from_bytes(path.name())) {
        Ok(identity) => Ok(Some(identity)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(system("look at", path, e)),
    }
}

fn on_disk(identity: &Identity) -> OnDisk {
    (identity.dev, identity.ino)
}
