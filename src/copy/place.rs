//! Where each selected file goes (C-5…C-9).

use crate::base::digest::{ContentDigest, Sha256};
use crate::context::{self, Content, Selected};
use crate::layer::{EntryKind, Meta, RelPath};
use crate::plan::{Copy, Mode};

use super::Error;
use super::dest::Dest;
use super::item::Item;
use super::occupant::Occupant;
use super::owner::{self, Owner};
use super::view::{Data, NewDir, Origin, Placed, View};

/// Files being placed for one instruction.
pub(super) struct Placer<'a> {
    pub(super) view: View<'a>,
    copy: &'a Copy,
    /// What `--chown` says.
    pub(super) owner: Option<Owner>,
    pub(super) mode: Option<Mode>,
    /// The destination with links followed, once something goes there.
    dest: Option<RelPath>,
}

/// One thing to place: what it is, what is in it and where it comes from.
struct Thing<'t> {
    meta: &'t context::Meta,
    content: &'t Content,
    source: usize,
    origin: Origin,
}

impl<'a> Placer<'a> {
    /// Reads the options of `copy`; names are looked up in `dest`.
    pub(super) fn new(copy: &'a Copy, dest: &'a Dest<'a>) -> Result<Self, Error> {
        let owner = copy.chown.as_deref().map(|text| match owner::resolve(text, dest) {
            Err(Error::UnknownName { .. }) if copy.link => Err(Error::LinkedName { text: text.to_owned() }),
            other => other,
        });
        let mode = copy.chmod.as_deref().map(Mode::parse);
        let (owner, mode) = (owner.transpose()?, mode.transpose()?);
        let view = if copy.link { View::linked(dest.tree, dest.passed) } else { View::new(dest.tree) };
        Ok(Self { view, copy, owner, mode, dest: None })
    }

    /// What directories are like that have to be made (C-6).
    fn new_dir(&self) -> NewDir {
        let mode = self.mode.as_ref().map_or(0o755, Mode::for_new_dir);
        NewDir { mode, owner: self.owner.unwrap_or_default() }
    }

    /// The destination with its links followed (C-8); the same for every source of the instruction.
    pub(super) fn dest(&mut self) -> Result<RelPath, Error> {
        if let Some(dest) = &self.dest {
            return Ok(dest.clone());
        }
        let dest = self.view.resolve(self.copy.dest.as_bytes())?;
        self.dest = Some(dest.clone());
        Ok(dest)
    }

    /// The destination, made a directory if there is nothing.
    pub(super) fn dest_dir(&mut self) -> Result<RelPath, Error> {
        let dest = self.dest()?;
        self.view.ensure_dir(&dest, self.new_dir())?;
        Ok(dest)
    }

    /// A file's name is not the destination's: it goes into it.
    pub(super) fn goes_into(&mut self) -> Result<bool, Error> {
        let dest = self.dest()?;
        Ok(self.copy.dest_is_dir || self.view.is_dir(&dest))
    }

    /// Places what `origin` names, which is of `item`.
    pub(super) fn place(&mut self, item: &Item<'_>, origin: Origin) -> Result<(), Error> {
        let selected = &item.selected[origin.selected()];
        let (content, below) = &item.contents[origin.selected()];
        match selected.meta.is_dir() {
            true => self.place_dir(item, origin, below),
            false => self.place_file(selected, Thing { meta: &selected.meta, content, source: item.source, origin }),
        }
    }

    fn place_file(&mut self, selected: &Selected, thing: Thing<'_>) -> Result<(), Error> {
        let target = if self.goes_into()? {
            let into = |error| match error {
                symlink @ Error::NotADirectory { occupant: Occupant::Symlink { .. }, .. } => symlink,
                Error::NotADirectory { path, occupant } => Error::NotInto { path, occupant },
                other => other,
            };
            self.dest_dir().map_err(into)?.join_path(&RelPath::parse(&selected.name)?)
        } else {
            let dest = self.dest()?;
            self.view.ensure_dir(&dest.parent().unwrap_or_default(), self.new_dir())?;
            dest
        };
        self.put(target, thing)
    }

    /// Its content goes into the destination; the directory itself is only what makes one necessary (C-4, C-6, C-7).
    fn place_dir(&mut self, item: &Item<'_>, origin: Origin, contents: &[Content]) -> Result<(), Error> {
        let selected = &item.selected[origin.selected()];
        let dest = self.dest()?;
        let new = self.new_dir();
        self.view.ensure_dir(&dest.parent().unwrap_or_default(), new)?;
        let mode = match &self.mode {
            // A sticky or setgid bit that is asked for is not lost.
            Some(Mode::Octal(octal)) => *octal,
            // A checkout itself becomes the destination, a directory of a context never does.
            Some(mode) if item.commit.is_some() && !self.copy.dest_is_dir => mode.apply(new.mode, true),
            _ => new.mode,
        };
        self.view.ensure_dir(&dest, NewDir { mode, ..new })?;
        for (number, (node, content)) in selected.below.iter().zip(contents).enumerate() {
            let target = dest.join_path(&RelPath::parse(&node.path)?);
            let origin = origin.below(number);
            self.put(target, Thing { meta: &node.meta, content, source: item.source, origin })?;
        }
        Ok(())
    }

    fn put(&mut self, target: RelPath, thing: Thing<'_>) -> Result<(), Error> {
        let kind = match thing.meta.kind {
            context::FileKind::File => {
                EntryKind::File { size: thing.meta.size, content: thing.content.digest.map(ContentDigest) }
            }
            context::FileKind::Dir => EntryKind::Dir,
            context::FileKind::Symlink => EntryKind::Symlink { target: thing.content.link.clone() },
            context::FileKind::Fifo => EntryKind::Fifo,
            context::FileKind::Char { major, minor } => EntryKind::Char { major, minor },
            context::FileKind::Block { major, minor } => EntryKind::Block { major, minor },
            // Layers cannot hold one: like BuildKit's, the file is empty (C-11, N-26).
            context::FileKind::Socket => EntryKind::File { size: 0, content: Some(ContentDigest(Sha256::of(b""))) },
        };
        let mut xattrs = thing.content.xattrs.clone();
        match self.view.get(&target) {
            Some((EntryKind::Dir, there)) if kind == EntryKind::Dir => {
                let kept = there.xattrs.iter().filter(|(name, _)| !thing.content.xattrs.contains_key(*name));
                xattrs.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
            }
            Some((EntryKind::Dir, _)) => return Err(Error::IsADirectory { path: target }),
            Some((there, _)) if kind == EntryKind::Dir => {
                return Err(Error::NotADirectory { path: target, occupant: Occupant::of(there) });
            }
            _ => {}
        }
        let owner = self.owner.unwrap_or(Owner { uid: thing.meta.uid, gid: thing.meta.gid });
        let mode = match &self.mode {
            Some(mode) if has_mode(&kind) => mode.apply(thing.meta.mode, kind == EntryKind::Dir),
            _ => thing.meta.mode,
        };
        let meta = Meta { mode, uid: owner.uid, gid: owner.gid, mtime: thing.meta.mtime, xattrs: xattrs.into() };
        let inode = thing.meta.inode.filter(|inode| inode.links > 1 && thing.meta.is_file());
        let data = match thing.meta.is_file() {
            true => Data::Tree(thing.origin),
            false => Data::None,
        };
        let inode = inode.map(|inode| (thing.source, inode.device, inode.number));
        self.view.put(target, Placed { kind, meta, data, inode });
        Ok(())
    }
}

/// Symlinks are not changed by `--chmod` (C-17).
pub(super) fn has_mode(kind: &EntryKind) -> bool {
    !matches!(kind, EntryKind::Symlink { .. })
}
