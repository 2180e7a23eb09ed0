//! Comparison of an unpacked layer with what it must hold.
//!
//! **Holds.** Kind, mode, owner, size, link targets, hard links, attributes and content are compared, as far as the host could
//! express them when the layer was unpacked. Times are not: layers keep whole seconds, and a build may cap them.
//! **Upper directories.** The upper directory of a command, kept as an unpacked layer, may hide a directory where the layer
//! lists every file below it as deleted, and may delete what no layer below has. Both show the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use rayon::prelude::*;

use crate::base::digest::ContentDigest;
use crate::base::rooted::Root;

use super::apply::Form;
use super::changes::digest_of_file;
use super::disk::{self, Identity, Node};
use super::entry::{Entry, EntryKind, RelPath};
use super::error::Error;
use super::owners::Owners;
use super::tree::Tree;
use super::walk::{OverlayAttributes, walk};

/// A path at which an unpacked layer is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Altered {
    /// Where.
    pub path: RelPath,
    /// In which respect.
    pub aspect: Aspect,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aspect {
    /// It is missing.
    Missing,
    /// The layer does not have it.
    Unexpected,
    /// It is something else, for instance a link to another place.
    Kind,
    /// Its permission bits.
    Mode,
    /// Its owner or group.
    Owner,
    /// Its length.
    Size,
    /// An extended attribute.
    Attributes,
    /// It is no longer another name of the same file.
    Link,
    /// Its bytes.
    Content,
    /// It cannot be read.
    Unreadable,
}

impl fmt::Display for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.aspect {
            Aspect::Missing => "is missing",
            Aspect::Unexpected => "does not belong to the layer",
            Aspect::Kind => "is another kind of file, or a link to another place",
            Aspect::Mode => "has another mode",
            Aspect::Owner => "has another owner",
            Aspect::Size => "has another size",
            Aspect::Attributes => "has other extended attributes",
            Aspect::Link => "is no hard link any more",
            Aspect::Content => "has other content",
            Aspect::Unreadable => "cannot be read",
        };
        write!(f, "{} {what}", self.path)
    }
}

/// Compares `dir`, where the layer of `tree` was unpacked in `form`, with it. `here`: it was unpacked by a process with the
/// ids of this one. Returns every difference, in order of paths. Contents are read as far as the tree knows their digests.
pub(crate) fn audit(dir: &Path, tree: &Tree, form: Form, here: bool) -> Result<Vec<Altered>, Error> {
    let root = Root::open(dir).map_err(|e| Error::system("open", &RelPath::root(), e))?;
    let implied = tree.implied_dirs();
    let mut audit = Audit {
        tree,
        attributes: form.attributes(),
        owners: here.then(Owners::here).filter(|owners| owners.root),
        implied: &implied,
        seen: BTreeMap::new(),
        hiding: BTreeSet::new(),
        contents: Vec::new(),
        altered: Vec::new(),
    };
    walk(&root, |path, _, node| {
        // The directory itself belongs to whoever mounts it.
        if !path.is_root() {
            audit.visit(path, &node);
        }
        Ok(())
    })?;
    audit.missing();
    let Audit { contents, mut altered, .. } = audit;
    let wrong = contents.par_iter().filter_map(|(path, size, digest)| {
        let file = disk::open_file(root.as_fd(), path).map(File::from);
        let aspect = match file.and_then(|file| digest_of_file(file, *size)) {
            Ok(found) if found == digest.0 => return None,
            Ok(_) => Aspect::Content,
            Err(_) => Aspect::Unreadable,
        };
        Some(Altered { path: path.clone(), aspect })
    });
    altered.extend(wrong.collect::<Vec<_>>());
    altered.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(altered)
}

struct Audit<'t> {
    tree: &'t Tree,
    /// `None`: the files are not a layer of an overlay.
    attributes: Option<OverlayAttributes>,
    /// `None`: owners and modes cannot be compared.
    owners: Option<&'static Owners>,
    /// Directories that exist because of what is in them.
    implied: &'t BTreeSet<RelPath>,
    /// The files that were found.
    seen: BTreeMap<RelPath, Identity>,
    /// Directories that hide those of the layers below.
    hiding: BTreeSet<RelPath>,
    /// Files whose content is still to be compared.
    contents: Vec<(RelPath, u64, ContentDigest)>,
    altered: Vec<Altered>,
}

impl Audit<'_> {
    fn note(&mut self, path: &RelPath, aspect: Aspect) {
        self.altered.push(Altered { path: path.clone(), aspect });
    }

    fn visit(&mut self, path: &RelPath, node: &Node) {
        self.seen.insert(path.clone(), node.identity);
        let hides = self.attributes.is_some_and(|a| a.is_opaque(node));
        if hides {
            self.hiding.insert(path.clone());
        }
        if self.attributes.is_some() && self.tree.is_opaque(path) && !hides {
            self.note(path, Aspect::Attributes);
        }
        let is_whiteout = self.attributes.is_some_and(|a| a.is_whiteout(node));
        match self.tree.get(path) {
            None if is_whiteout || (self.implied.contains(path) && node.kind == Some(EntryKind::Dir)) => {}
            None => self.note(path, Aspect::Unexpected),
            Some(entry) => {
                if let Some(aspect) = self.compare(entry, node, is_whiteout) {
                    self.note(path, aspect);
                }
            }
        }
    }

    /// How a file differs from its entry; its content is compared later.
    fn compare(&mut self, entry: &Entry, node: &Node, is_whiteout: bool) -> Option<Aspect> {
        let tree = self.tree;
        let file = tree.inode(entry);
        match (&file.kind, &node.kind) {
            (EntryKind::Whiteout, _) => return (!is_whiteout).then_some(Aspect::Kind),
            // A device that could not be made has a stand-in, which hides what lower layers have.
            (EntryKind::Char { .. } | EntryKind::Block { .. } | EntryKind::Fifo, _) if is_whiteout => return None,
            (device, Some(_)) if node.device.as_ref() == Some(device) => return None,
            (EntryKind::File { size, content }, Some(EntryKind::File { size: found, .. })) => {
                if size != found {
                    return Some(Aspect::Size);
                }
                let first = std::ptr::eq(file, entry);
                if first && let (Some(content), 1..) = (content, *size) {
                    self.contents.push((entry.path.clone(), *size, *content));
                }
            }
            (want, Some(found)) if want == found => {}
            _ => return Some(Aspect::Kind),
        }
        let strange = |(name, value): (&Vec<u8>, &Vec<u8>)| file.meta.xattrs.get(name) != Some(value);
        // One that the file system does not support is in the tree only.
        if node.meta.xattrs.iter().any(strange) {
            return Some(Aspect::Attributes);
        }
        self.owners?;
        let (is, want) = (&node.meta, &file.meta);
        if (!node.unknown.uid && is.uid != want.uid) || (!node.unknown.gid && is.gid != want.gid) {
            return Some(Aspect::Owner);
        }
        let is_link = matches!(file.kind, EntryKind::Symlink { .. });
        (!is_link && is.mode != want.mode & 0o7777).then_some(Aspect::Mode)
    }

    /// Notes what was not found, and hard links that are none any more.
    fn missing(&mut self) {
        let tree = self.tree;
        for entry in tree.entries().iter().filter(|entry| !entry.path.is_root() && entry.kind != EntryKind::Opaque) {
            let found = self.seen.get(&entry.path);
            let aspect = match (&entry.kind, found) {
                (EntryKind::Hardlink { target }, Some(found)) => {
                    let same = self.seen.get(target).is_some_and(|t| (t.dev, t.ino) == (found.dev, found.ino));
                    (!same).then_some(Aspect::Link)
                }
                (_, Some(_)) => None,
                (EntryKind::Whiteout, None) => {
                    (self.attributes.is_some() && !self.is_hidden(entry)).then_some(Aspect::Missing)
                }
                (EntryKind::Char { .. } | EntryKind::Block { .. }, None) if self.attributes.is_none() => None,
                (EntryKind::Hardlink { .. }, None) if is_device(tree.inode(entry)) => None,
                (_, None) => Some(Aspect::Missing),
            };
            if let Some(aspect) = aspect {
                self.note(&entry.path, aspect);
            }
        }
    }

    /// Whether a directory above `entry` hides what the layers below have there.
    fn is_hidden(&self, entry: &Entry) -> bool {
        std::iter::successors(entry.path.parent(), RelPath::parent).any(|dir| self.hiding.contains(&dir))
    }
}

fn is_device(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Char { .. } | EntryKind::Block { .. })
}
