//! The content of a directory after a step.
//!
//! **Holds.** [`Walked`] lists an overlay's upper directory or a whole tree, not yet compared with the layers below.
//! **In place.** What a layer cannot hold (attributes, ACLs, sockets) is also removed from an upper directory: the next step
//! may use it as a lower directory and must see what the layer says. The mode that an ACL is part of stays.
//! **Order.** The walk is done before the next step gets the directory; the comparison can wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::base::rooted::Root;

use super::disk::{self, Identity, Node};
use super::entry::{EntryKind, Meta, RelPath};
use super::error::Error;
use super::merged::MergedTree;
use super::owners::{self, Unknown};
use super::place;

/// The identities of all files before a step, for the copy fallback: files with the same identity are not read.
#[derive(Debug, Default)]
pub struct Baseline(BTreeMap<RelPath, Identity>);

impl Baseline {
    /// Looks at everything below `root`.
    pub(crate) fn take(root: &Root) -> Result<Self, Error> {
        let mut seen = BTreeMap::new();
        walk(root, |path, _, node| {
            seen.insert(path.clone(), node.identity);
            Ok(())
        })?;
        Ok(Self(seen))
    }

    pub(super) fn identity(&self, path: &RelPath) -> Option<Identity> {
        self.0.get(path).copied()
    }
}

/// The attribute namespace an overlay was mounted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverlayAttributes {
    /// `trusted.overlay.*`: as root.
    Trusted,
    /// `user.overlay.*`: in a user namespace (`userxattr`).
    User,
}

impl OverlayAttributes {
    fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    fn get<'n>(self, node: &'n Node, name: &str) -> Option<&'n [u8]> {
        node.overlay.get(format!("{}{name}", self.prefix()).as_bytes()).map(Vec::as_slice)
    }

    /// Whether overlayfs uses this attribute itself. One with a second `overlay.` was set by a command, which sees it without.
    fn steers(self, name: &[u8]) -> bool {
        name.strip_prefix(self.prefix().as_bytes()).is_some_and(|rest| !rest.starts_with(b"overlay."))
    }

    /// Whether a directory hides those of the layers below.
    pub(super) fn is_opaque(self, node: &Node) -> bool {
        self.get(node, "opaque") == Some(b"y")
    }

    /// A 0:0 character device, or an empty file marked as one.
    pub(super) fn is_whiteout(self, node: &Node) -> bool {
        match node.kind {
            Some(EntryKind::Char { major: 0, minor: 0 }) => true,
            Some(EntryKind::File { size: 0, .. }) => self.get(node, "whiteout").is_some(),
            _ => false,
        }
    }
}

/// The entries of a directory tree.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(super) items: Vec<Item>,
    /// Paths that are marked as deleted, whether or not anything was there.
    pub(super) gone: Vec<RelPath>,
    /// Directories that hide those of the layers below.
    pub(super) replaced: Vec<RelPath>,
    /// Sockets in an upper directory, and whether the layers below are visible there.
    sockets: Vec<(RelPath, bool)>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) path: RelPath,
    pub(super) kind: EntryKind,
    pub(super) meta: Meta,
    pub(super) identity: Identity,
    /// The owners that only the layers below can tell.
    pub(super) unknown: Unknown,
    /// The device that it stands for, if the layers below have it.
    pub(super) device: Option<EntryKind>,
    /// It has not changed since the baseline.
    pub(super) untouched: bool,
}

impl Walked {
    fn new() -> Self {
        Self { items: Vec::new(), gone: Vec::new(), replaced: Vec::new(), sockets: Vec::new() }
    }

    /// Walks an overlay's upper directory and removes what a layer cannot hold. The root itself is skipped: its metadata
    /// belongs to whoever mounted it.
    ///
    /// Ok: as a lower directory it shows what the layer will say, once [`Walked::remove_sockets`] was called.
    pub(crate) fn upper(upper: &Root, attributes: OverlayAttributes) -> Result<Self, Error> {
        let mut found = Self::new();
        let mut strip = Strip { attributes, refused: BTreeSet::new() };
        // Directories whose lower counterpart is not merged in, and all their subdirectories.
        let mut hidden: BTreeSet<RelPath> = BTreeSet::new();
        walk(upper, |path, dir, node| {
            if path.is_root() {
                return Ok(());
            }
            for (attribute, reason) in [
                ("redirect", "overlayfs redirected a directory; redirect_dir must be off"),
                ("metacopy", "overlayfs copied only metadata; metacopy must be off"),
            ] {
                if attributes.get(&node, attribute).is_some() {
                    return Err(Error::Upper { path: path.clone(), reason });
                }
            }
            let in_hidden = !hidden.is_empty() && path.parent().is_some_and(|p| hidden.contains(&p));
            if attributes.is_whiteout(&node) {
                if !in_hidden {
                    found.gone.push(path.clone());
                }
                return Ok(());
            }
            if node.kind == Some(EntryKind::Dir) {
                if in_hidden {
                    hidden.insert(path.clone());
                } else if attributes.is_opaque(&node) {
                    hidden.insert(path.clone());
                    found.replaced.push(path.clone());
                }
            }
            strip.strip(path, dir, &node)?;
            if node.kind.is_none() {
                found.sockets.push((path.clone(), !in_hidden));
            }
            found.seen(path, node);
            Ok(())
        })?;
        Ok(found)
    }

    /// Walks a whole tree.
    pub(crate) fn tree(root: &Root) -> Result<Self, Error> {
        let mut found = Self::new();
        walk(root, |path, _, node| {
            if !path.is_root() {
                found.seen(path, node);
            }
            Ok(())
        })?;
        found.replaced.push(RelPath::root());
        Ok(found)
    }

    fn seen(&mut self, path: &RelPath, node: Node) {
        let Node { kind, meta, unknown, device, identity, .. } = node;
        match kind {
            Some(kind) => {
                self.items.push(Item { path: path.clone(), kind, meta, identity, unknown, device, untouched: false });
            }
            // A socket: layers have none, but what was there before is gone.
            None => self.gone.push(path.clone()),
        }
    }

    /// Sockets were found in an upper directory.
    pub(crate) fn has_sockets(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Removes them from `upper`, where the walk was. Ok: in their place is what the layer over `lower` will say.
    pub(crate) fn remove_sockets(&mut self, upper: &Root, lower: &MergedTree) -> Result<(), Error> {
        for (path, shows) in self.sockets.drain(..) {
            let fail = |e: io::Error| Error::system("remove", &path, e);
            let parent = path.parent().unwrap_or_default();
            let dir = disk::open_dir_at(upper.as_fd(), &parent).map_err(fail)?;
            let before = disk::look(dir.as_fd(), OsStr::new(".")).map_err(fail)?;
            let name = OsStr::from_bytes(path.name());
            rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(|e| fail(e.into()))?;
            if shows && lower.get(&path).is_some() {
                place::make_node(dir.as_fd(), name, FileType::CharacterDevice, 0, 0).map_err(|e| fail(e.into()))?;
            }
            place::set_file_mtime(dir.as_fd(), before.meta.mtime).map_err(fail)?;
        }
        Ok(())
    }
}

/// Removes attributes that no layer keeps.
struct Strip {
    attributes: OverlayAttributes,
    /// Labels that this host sets on every file and that cannot be removed.
    refused: BTreeSet<Vec<u8>>,
}

impl Strip {
    fn strip(&mut self, path: &RelPath, dir: BorrowedFd<'_>, node: &Node) -> Result<(), Error> {
        if node.others.is_empty() && node.overlay.is_empty() {
            return Ok(());
        }
        let marked = node.device.is_some() || owners::mark(&node.meta).is_some();
        let others = node.others.iter().filter(|name| !(marked && *name == owners::MARK));
        let overlay = node.overlay.keys().filter(|name| !self.attributes.steers(name));
        for name in others.chain(overlay) {
            if self.refused.contains(name) {
                continue;
            }
            let file = disk::proc_path(dir, OsStr::from_bytes(path.name()));
            match rustix::fs::lremovexattr(&file[..], &name[..]) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(e) if owners::is_refusal(e) && is_the_hosts(name) => drop(self.refused.insert(name.clone())),
                Err(e) => return Err(Error::system("remove an attribute of", path, e.into())),
            }
        }
        Ok(())
    }
}

/// Whether the host, rather than a command, may have set this attribute.
fn is_the_hosts(name: &[u8]) -> bool {
    !name.starts_with(b"user.") && !name.starts_with(b"system.posix_acl_")
}

/// Visits `root` and everything below it, parents first, with the directory that each is in.
pub(super) fn walk(
    root: &Root,
    mut visit: impl FnMut(&RelPath, BorrowedFd<'_>, Node) -> Result<(), Error>,
) -> Result<(), Error> {
    let top = RelPath::root();
    let node = disk::look(root.as_fd(), OsStr::new(".")).map_err(|e| Error::system("stat", &top, e))?;
    visit(&top, root.as_fd(), node)?;
    // A directory is opened from its parent's fd, so depth is not limited by the length of a path, and a parent is
    // closed as soon as its last subdirectory has been entered.
    let mut todo: Vec<(Rc<OwnedFd>, OsString, RelPath)> = Vec::new();
    let fd = disk::open_dir(root.as_fd(), OsStr::new(".")).map_err(|e| Error::system("open", &top, e))?;
    let mut next = Some((Rc::new(fd), top));
    while let Some((dir, path)) = next.take() {
        let names = disk::names(dir.as_fd()).map_err(|e| Error::system("list", &path, e))?;
        for name in names {
            let here = path.join(name.as_bytes());
            let node = disk::look(dir.as_fd(), &name).map_err(|e| Error::system("stat", &here, e))?;
            let is_dir = node.kind == Some(EntryKind::Dir);
            visit(&here, dir.as_fd(), node)?;
            if is_dir {
                todo.push((Rc::clone(&dir), name, here));
            }
        }
        drop(dir);
        if let Some((parent, name, here)) = todo.pop() {
            let fd = disk::open_dir(parent.as_fd(), &name).map_err(|e| Error::system("open", &here, e))?;
            next = Some((Rc::new(fd), here));
        }
    }
    Ok(())
}
