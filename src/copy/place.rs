//! Places each selected file in the destination (C-5…C-9).

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

/// Places the files of one instruction.
pub(super) struct Placer<'a> {
    pub(super) view: View<'a>,
    copy: &'a Copy,
    /// Of `--chown`.
    pub(super) owner: Option<Owner>,
    pub(super) mode: Option<Mode>,
    /// The destination with symlinks followed; resolved when the first file is placed.
    dest: Option<RelPath>,
}

/// One file to place.
struct SourceFile<'t> {
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

    /// Owner and mode of directories that have to be made (C-6).
    fn new_dir(&self) -> NewDir {
        let mode = self.mode.as_ref().map_or(0o755, Mode::for_new_dir);
        NewDir { mode, owner: self.owner.unwrap_or_default() }
    }

    /// The destination with symlinks followed (C-8); the same for every source of the instruction.
    pub(super) fn dest(&mut self) -> Result<RelPath, Error> {
        if let Some(dest) = &self.dest {
            return Ok(dest.clone());
        }
        let dest = self.view.resolve(self.copy.dest.as_bytes())?;
        self.dest = Some(dest.clone());
        Ok(dest)
    }

    /// The destination, made a directory if it does not exist.
    pub(super) fn dest_dir(&mut self) -> Result<RelPath, Error> {
        let dest = self.dest()?;
        self.view.ensure_dir(&dest, self.new_dir())?;
        Ok(dest)
    }

    /// Whether files go into the destination as a directory.
    pub(super) fn goes_into(&mut self) -> Result<bool, Error> {
        let dest = self.dest()?;
        Ok(self.copy.dest_is_dir || self.view.is_dir(&dest))
    }

    /// Places `origin`, which belongs to `item`.
    pub(super) fn place(&mut self, item: &Item<'_>, origin: Origin) -> Result<(), Error> {
        let selected = &item.selected[origin.selected()];
        let (content, below) = &item.contents[origin.selected()];
        match selected.meta.is_dir() {
            true => self.place_dir(item, origin, below),
            false => {
                self.place_file(selected, SourceFile { meta: &selected.meta, content, source: item.source, origin })
            }
        }
    }

    fn place_file(&mut self, selected: &Selected, file: SourceFile<'_>) -> Result<(), Error> {
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
        self.put(target, file)
    }

    /// Places the content of a directory into the destination, which keeps its own metadata if it exists (C-4, C-6, C-7).
    fn place_dir(&mut self, item: &Item<'_>, origin: Origin, contents: &[Content]) -> Result<(), Error> {
        let selected = &item.selected[origin.selected()];
        let dest = self.dest()?;
        let new = self.new_dir();
        self.view.ensure_dir(&dest.parent().unwrap_or_default(), new)?;
        let mode = match &self.mode {
            // Unlike implied directories, it gets sticky and setgid bits.
            Some(Mode::Octal(octal)) => *octal,
            // A checkout becomes the destination itself, unlike a directory of a context.
            Some(mode) if item.commit.is_some() && !self.copy.dest_is_dir => mode.apply(new.mode, true),
            _ => new.mode,
        };
        self.view.ensure_dir(&dest, NewDir { mode, ..new })?;
        for (number, (node, content)) in selected.below.iter().zip(contents).enumerate() {
            let target = dest.join_path(&RelPath::parse(&node.path)?);
            let origin = origin.below(number);
            self.put(target, SourceFile { meta: &node.meta, content, source: item.source, origin })?;
        }
        Ok(())
    }

    fn put(&mut self, target: RelPath, file: SourceFile<'_>) -> Result<(), Error> {
        let kind = match file.meta.kind {
            context::FileKind::File => {
                EntryKind::File { size: file.meta.size, content: file.content.digest.map(ContentDigest) }
            }
            context::FileKind::Dir => EntryKind::Dir,
            context::FileKind::Symlink => EntryKind::Symlink { target: file.content.link.clone() },
            context::FileKind::Fifo => EntryKind::Fifo,
            context::FileKind::Char { major, minor } => EntryKind::Char { major, minor },
            context::FileKind::Block { major, minor } => EntryKind::Block { major, minor },
            // Layers cannot have sockets: as in BuildKit, it becomes an empty file (C-11, N-26).
            context::FileKind::Socket => EntryKind::File { size: 0, content: Some(ContentDigest(Sha256::of(b""))) },
        };
        let mut xattrs = file.content.xattrs.clone();
        match self.view.get(&target) {
            Some((EntryKind::Dir, there)) if kind == EntryKind::Dir => {
                let kept = there.xattrs.iter().filter(|(name, _)| !file.content.xattrs.contains_key(*name));
                xattrs.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
            }
            Some((EntryKind::Dir, _)) => return Err(Error::IsADirectory { path: target }),
            Some((there, _)) if kind == EntryKind::Dir => {
                return Err(Error::NotADirectory { path: target, occupant: Occupant::of(there) });
            }
            _ => {}
        }
        let owner = self.owner.unwrap_or(Owner { uid: file.meta.uid, gid: file.meta.gid });
        let mode = match &self.mode {
            Some(mode) if has_mode(&kind) => mode.apply(file.meta.mode, kind == EntryKind::Dir),
            _ => file.meta.mode,
        };
        let meta = Meta { mode, uid: owner.uid, gid: owner.gid, mtime: file.meta.mtime, xattrs: xattrs.into() };
        let inode = file.meta.inode.filter(|inode| inode.links > 1 && file.meta.is_file());
        let data = match file.meta.is_file() {
            true => Data::Tree(file.origin),
            false => Data::None,
        };
        let inode = inode.map(|inode| (file.source, inode.device, inode.number));
        self.view.put(target, Placed { kind, meta, data, inode });
        Ok(())
    }
}

/// Whether `--chmod` applies: not to symlinks (C-17).
pub(super) fn has_mode(kind: &EntryKind) -> bool {
    !matches!(kind, EntryKind::Symlink { .. })
}
