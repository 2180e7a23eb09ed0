//! A layer, or any archive, unpacked into a directory (S-30…S-38).
//!
//! **Holds.** Parents are walked one name at a time without following links; a link on the way is read and its target
//! walked from the root of the directory, so nothing leaves it whatever the archive or the directory hold. The last
//! component is never followed. The last entry at a path wins. Whiteouts and opaque markers concern what was there
//! before the layer, never its own entries, in whatever order they come.
//! **Order.** Owner, then mode (chown clears setuid bits), then attributes (chown clears capabilities), then time;
//! directory modes and times last, deepest first.
//! **Not here.** Removing a half-filled directory after an error: whoever made it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::base::digest::{ContentDigest, DiffId, Hasher};
use crate::base::rooted::Root;
use crate::base::time::Timestamp;

use super::ahead;
use super::changes::OverlayAttributes;
use super::decompress::{TooMuch, decompress};
use super::disk;
use super::entry::{Entry, Kind, Meta, RelPath};
use super::error::Error;
use super::ledger::Ledger;
use super::limits::Limits;
use super::place;
use super::tar_read::{Dialect, TarReader};
use super::tree::Tree;

/// What the filled directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A root, or part of one: whiteouts delete what is there.
    Plain,
    /// One lower directory of an overlay: whiteouts become what overlayfs understands.
    Overlay(OverlayAttributes),
}

/// Who owns the files on disk. The tree always has the true owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Whom the archive says.
    Apply,
    /// Us, and we can always read them: this host cannot express other owners.
    Record,
}

/// How to unpack.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// What the directory is for.
    pub mode: Mode,
    /// Whose the files become.
    pub ownership: Ownership,
    /// What `.wh.` names mean.
    pub dialect: Dialect,
    /// What is too much.
    pub limits: Limits,
    /// Put content digests into the tree.
    pub digest_contents: bool,
}

impl ApplyOptions {
    /// A layer with its true owners.
    pub fn layer(mode: Mode) -> Self {
        Self {
            mode,
            ownership: Ownership::Apply,
            dialect: Dialect::Layer,
            limits: Limits::default(),
            digest_contents: false,
        }
    }
}

/// What unpacking left.
#[derive(Debug)]
pub struct Applied {
    /// What the layer holds, at real paths, with true owners and devices.
    pub tree: Tree,
    /// Digest of the uncompressed stream, to its last byte.
    pub diff_id: DiffId,
    /// Length of the uncompressed stream.
    pub plain_size: u64,
    /// Directories that the layer names only by what is in them. They were made with mode 0755; where a lower layer
    /// has them, [`settle_parents`] gives them its metadata.
    pub implied: Vec<RelPath>,
    /// What the tree has and the disk has not, because the host would not have it: devices, attributes.
    pub recorded_only: Vec<RelPath>,
}

/// Unpacks `stream`, compressed or not, below `dest`.
///
/// Ok: the directory holds what the archive says, and if `expect` is given the stream was exactly that layer. `Err`:
/// the directory holds an unknown part of it. The stream is read to its end, so a reader that verifies has verified.
pub fn apply(
    stream: impl Read + Send,
    dest: &Root,
    expect: Option<DiffId>,
    options: &ApplyOptions,
) -> Result<Applied, Error> {
    let (_, plain) = decompress(stream, &options.limits).map_err(Error::Stream)?;
    let fd = disk::open_dir(dest.as_fd(), OsStr::new(".")).map_err(|e| system("open", &RelPath::root(), e))?;
    let mut applier = Applier::new(fd, options);
    let unpack = |plain: &mut dyn Read| -> Result<(), Error> {
        let mut reader = TarReader::new(plain, options.dialect, options.limits.clone());
        while let Some(entry) = reader.next_entry()? {
            applier.entry(entry, &mut reader)?;
        }
        Ok(())
    };
    let ((), digest, plain_size) = ahead::digested(plain, unpack)?;
    let diff_id = DiffId(digest);
    if let Some(want) = expect.filter(|want| *want != diff_id) {
        return Err(Error::DiffId { want, got: diff_id });
    }
    applier.finish(diff_id, plain_size)
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Error::Stream(source)
    }
}

/// Gives directories that a layer only implied the metadata that `below` has for them. Ok: an overlay of the layer
/// over those below shows every directory as it was.
pub fn settle_parents(
    dest: &Root,
    implied: &[RelPath],
    below: &super::merged::MergedTree,
    options: &ApplyOptions,
) -> Result<(), Error> {
    let fd = disk::open_dir(dest.as_fd(), OsStr::new(".")).map_err(|e| system("open", &RelPath::root(), e))?;
    let mut applier = Applier::new(fd, options);
    for path in implied.iter().rev() {
        if let Some(found) = below.get(path).filter(|f| f.is_dir()) {
            applier.settle_dir(path, found.meta())?;
        }
    }
    Ok(())
}

const MAX_LINKS: usize = 40;
/// Directories kept open; sorted archives need one at a time.
const OPEN_DIRS: usize = 64;

type Dir = (RelPath, Rc<OwnedFd>);

struct Applier<'a> {
    root: Rc<OwnedFd>,
    options: &'a ApplyOptions,
    ledger: Ledger,
    /// Directories by the name the archive uses, with their real paths.
    open: BTreeMap<RelPath, Dir>,
    recorded_only: Vec<RelPath>,
    buffer: Vec<u8>,
}

impl<'a> Applier<'a> {
    fn new(root: OwnedFd, options: &'a ApplyOptions) -> Self {
        Self {
            root: Rc::new(root),
            options,
            ledger: Ledger::default(),
            open: BTreeMap::new(),
            recorded_only: Vec::new(),
            buffer: vec![0; 128 << 10],
        }
    }

    fn entry(&mut self, entry: Entry, content: &mut dyn Read) -> Result<(), Error> {
        match entry.kind {
            Kind::Opaque => return self.opaque(&entry.path),
            _ if entry.path.is_root() => return self.root_entry(entry),
            _ => {}
        }
        let parent = entry.path.parent().unwrap_or_default();
        let name = OsStr::from_bytes(entry.path.name()).to_owned();
        if entry.kind == Kind::Whiteout {
            return match self.options.mode {
                // Nothing there, nothing to delete; and no directory appears for it.
                Mode::Plain => match self.find_dir(&parent)? {
                    Some((dir, fd)) => self.whiteout_plain(dir.join(name.as_bytes()), fd.as_fd(), &name),
                    None => Ok(()),
                },
                Mode::Overlay(attributes) => {
                    let (dir, fd) = self.dir(&parent)?;
                    self.whiteout_overlay(dir.join(name.as_bytes()), fd.as_fd(), &name, attributes)
                }
            };
        }
        let (dir, fd) = self.dir(&parent)?;
        let path = dir.join(name.as_bytes());
        self.place(path, fd.as_fd(), &name, entry.kind, entry.meta, content)
    }

    fn root_entry(&mut self, entry: Entry) -> Result<(), Error> {
        match entry.kind {
            Kind::Dir => {
                let root = Rc::clone(&self.root);
                self.own(&entry.path, root.as_fd(), OsStr::new("."), &entry.meta)?;
                self.ledger.put(entry.path, Kind::Dir, entry.meta);
                Ok(())
            }
            _ => Err(refuse(&entry.path, "only a directory can be the root")),
        }
    }

    fn place(
        &mut self,
        path: RelPath,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        kind: Kind,
        meta: Meta,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        match &kind {
            Kind::File { size, .. } => {
                let fd = self.make(&path, dir, name, || place::create_file(dir, name))?;
                let digest = self.fill(&path, fd, *size, &meta, content)?;
                self.ledger.put(path.clone(), kind, meta);
                if let Some(digest) = digest {
                    self.ledger.set_content(&path, digest);
                }
                return Ok(());
            }
            Kind::Dir => {
                self.make_dir(&path, dir, name)?;
                self.own(&path, dir, name, &meta)?;
                // A whiteout of the same name came first: the directory starts empty.
                if self.ledger.has_whiteout(&path) {
                    self.mark_opaque(dir, name, &path)?;
                }
            }
            Kind::Symlink { target } => {
                let target = OsStr::from_bytes(target);
                self.make(&path, dir, name, || rustix::fs::symlinkat(target, dir, name))?;
                // Another way may lead through it from now on.
                self.open.clear();
                self.own(&path, dir, name, &meta)?;
                place::set_mtime(dir, name, meta.mtime).map_err(|e| system("set time of", &path, e))?;
            }
            Kind::Hardlink { target } => return self.link(path, dir, name, target),
            Kind::Fifo => {
                self.make(&path, dir, name, || place::make_node(dir, name, FileType::Fifo, 0, 0))?;
                self.node_meta(&path, dir, name, &meta)?;
            }
            Kind::Char { major, minor } | Kind::Block { major, minor } => {
                let file_type =
                    if matches!(kind, Kind::Char { .. }) { FileType::CharacterDevice } else { FileType::BlockDevice };
                // 0:0 would be a whiteout to overlayfs; the archive has other words for that (S-36).
                let is_whiteout = kind == Kind::Char { major: 0, minor: 0 };
                self.clear(&path, dir, name)?;
                let made = if is_whiteout || self.options.ownership == Ownership::Record {
                    Err(Errno::PERM)
                } else {
                    place::make_node(dir, name, file_type, *major, *minor)
                };
                match made {
                    Ok(()) => self.node_meta(&path, dir, name, &meta)?,
                    Err(Errno::PERM) => self.recorded_only.push(path.clone()),
                    Err(e) => return Err(system("create device", &path, e.into())),
                }
            }
            Kind::Whiteout | Kind::Opaque => return Ok(()),
        }
        self.ledger.put(path, kind, meta);
        Ok(())
    }

    /// Runs `create`; if something is in the way it is removed first, links as links, directories as a whole (S-34).
    fn make<T>(
        &mut self,
        path: &RelPath,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match create() {
            Err(Errno::EXIST) => {
                self.clear(path, dir, name)?;
                create().map_err(|e| system("create", path, e.into()))
            }
            other => other.map_err(|e| system("create", path, e.into())),
        }
    }

    /// Ok: nothing is at `path`.
    fn clear(&mut self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        place::remove(dir, name).map_err(|e| system("remove", path, e))?;
        // A whiteout's own device went with it, but the whiteout stays in memory: it still concerns a new directory.
        let hidden = self.ledger.has_whiteout(path);
        self.ledger.take_away(path);
        if hidden {
            self.ledger.whiteout(path.clone());
        }
        self.open.clear();
        Ok(())
    }

    fn make_dir(&mut self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        match place::make_dir(dir, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| system("create directory", path, e.into())),
        }
        // A directory stays and gets new metadata; a link to one does not count as one.
        let old = disk::look(dir, name).map_err(|e| system("look at", path, e))?;
        if old.kind == Some(Kind::Dir) {
            return Ok(());
        }
        self.clear(path, dir, name)?;
        place::make_dir(dir, name).map_err(|e| system("create directory", path, e.into()))
    }

    fn fill(
        &mut self,
        path: &RelPath,
        fd: OwnedFd,
        size: u64,
        meta: &Meta,
        content: &mut dyn Read,
    ) -> Result<Option<ContentDigest>, Error> {
        let mut file = File::from(fd);
        let mut hasher = self.options.digest_contents.then(Hasher::new);
        let mut left = size;
        while left > 0 {
            let want = left.min(self.buffer.len() as u64) as usize;
            let n = content.read(&mut self.buffer[..want]).map_err(Error::Stream)?;
            if n == 0 {
                return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into()));
            }
            file.write_all(&self.buffer[..n]).map_err(|e| system("write", path, e))?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&self.buffer[..n]);
            }
            left -= n as u64;
        }
        let fd = file.as_fd();
        if self.options.ownership == Ownership::Apply {
            let (uid, gid) = (rustix::fs::Uid::from_raw(meta.uid), rustix::fs::Gid::from_raw(meta.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|e| system("set owner of", path, e.into()))?;
        }
        let mode = rustix::fs::Mode::from_raw_mode(self.mode_on_disk(meta, false));
        rustix::fs::fchmod(fd, mode).map_err(|e| system("set mode of", path, e.into()))?;
        for (key, value) in &meta.xattrs {
            let set = rustix::fs::fsetxattr(fd, &key[..], value, rustix::fs::XattrFlags::empty());
            self.attribute(path, set)?;
        }
        place::set_file_mtime(fd, meta.mtime).map_err(|e| system("set time of", path, e))?;
        Ok(hasher.map(|h| ContentDigest(h.finish())))
    }

    fn mode_on_disk(&self, meta: &Meta, dir: bool) -> u32 {
        match self.options.ownership {
            Ownership::Apply => meta.mode & 0o7777,
            Ownership::Record => meta.mode & 0o7777 | if dir { 0o700 } else { 0o600 },
        }
    }

    /// Owner and attributes of anything but a regular file.
    fn own(&mut self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> Result<(), Error> {
        if self.options.ownership == Ownership::Apply {
            place::chown(dir, name, meta.uid, meta.gid).map_err(|e| system("set owner of", path, e))?;
        }
        for (key, value) in &meta.xattrs {
            self.attribute(path, place::set_xattr(dir, name, key, value))?;
        }
        Ok(())
    }

    fn node_meta(&mut self, path: &RelPath, dir: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> Result<(), Error> {
        self.own(path, dir, name, meta)?;
        let mode = self.mode_on_disk(meta, false);
        place::chmod(dir, name, mode).map_err(|e| system("set mode of", path, e))?;
        place::set_mtime(dir, name, meta.mtime).map_err(|e| system("set time of", path, e))
    }

    /// An attribute that this host or file system refuses is in the tree only (C-14).
    fn attribute(&mut self, path: &RelPath, set: Result<(), Errno>) -> Result<(), Error> {
        match set {
            Ok(()) => Ok(()),
            Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => {
                self.recorded_only.push(path.clone());
                Ok(())
            }
            Err(e) => Err(system("set attribute of", path, e.into())),
        }
    }

    /// A second name for a file of this layer; the target is resolved in the root, its last component not followed
    /// (S-33).
    fn link(&mut self, path: RelPath, dir: BorrowedFd<'_>, name: &OsStr, target: &RelPath) -> Result<(), Error> {
        let missing = || refuse(&path, format!("hard link to {target}, which this archive has not brought"));
        let parent = target.parent().ok_or_else(missing)?;
        let (target_dir, target_fd) = self.find_dir(&parent)?.ok_or_else(missing)?;
        let real = target_dir.join(target.name());
        if real == path {
            return Err(refuse(&path, "hard link to itself"));
        }
        if path.is_within(&real) || real.is_within(&path) {
            return Err(refuse(&path, "hard link to a directory"));
        }
        match self.ledger.kind(&real) {
            None => return Err(missing()),
            Some(Kind::Dir) => return Err(refuse(&path, "hard link to a directory")),
            Some(_) => {}
        }
        let recorded = self.recorded_only.contains(&real)
            && disk::look(target_fd.as_fd(), OsStr::from_bytes(target.name())).is_err();
        if recorded {
            self.clear(&path, dir, name)?;
            self.recorded_only.push(path.clone());
        } else {
            let target_name = OsStr::from_bytes(target.name());
            let flags = rustix::fs::AtFlags::empty();
            self.make(&path, dir, name, || rustix::fs::linkat(target_fd.as_fd(), target_name, dir, name, flags))?;
        }
        let Some((first, meta)) = self.ledger.file_of(&real) else { return Err(missing()) };
        let meta = meta.clone();
        self.ledger.put(path, Kind::Hardlink { target: first }, meta);
        Ok(())
    }

    fn whiteout_overlay(
        &mut self,
        path: RelPath,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        _: OverlayAttributes,
    ) -> Result<(), Error> {
        let own_dir = self.ledger.holds(&path) && self.ledger.kind(&path).is_none_or(|k| *k == Kind::Dir);
        if own_dir {
            self.mark_opaque(dir, name, &path)?;
        } else if !self.ledger.holds(&path) && !self.ledger.has_whiteout(&path) {
            self.make(&path, dir, name, || place::make_node(dir, name, FileType::CharacterDevice, 0, 0))?;
        }
        self.ledger.whiteout(path);
        Ok(())
    }

    fn whiteout_plain(&mut self, path: RelPath, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        if self.ledger.holds(&path) {
            if let Ok(inner) = disk::open_dir(dir, name) {
                self.empty(&path, &inner)?;
            }
        } else {
            place::remove(dir, name).map_err(|e| system("remove", &path, e))?;
            self.open.clear();
        }
        self.ledger.whiteout(path);
        Ok(())
    }

    fn opaque(&mut self, raw: &RelPath) -> Result<(), Error> {
        match self.options.mode {
            Mode::Plain => {
                let Some((path, fd)) = self.find_dir(raw)? else { return Ok(()) };
                self.empty(&path, &fd)?;
                self.ledger.set_opaque(path);
            }
            Mode::Overlay(_) => {
                let (path, fd) = self.dir(raw)?;
                self.mark_opaque(fd.as_fd(), OsStr::new("."), &path)?;
                self.ledger.set_opaque(path);
            }
        }
        Ok(())
    }

    /// Tells overlayfs that a directory hides what is below. Plain directories were emptied instead.
    fn mark_opaque(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &RelPath) -> Result<(), Error> {
        let Mode::Overlay(attributes) = self.options.mode else { return Ok(()) };
        let key: &[u8] = match attributes {
            OverlayAttributes::Trusted => b"trusted.overlay.opaque",
            OverlayAttributes::User => b"user.overlay.opaque",
        };
        place::set_xattr(dir, name, key, b"y").map_err(|e| system("mark opaque", path, e.into()))
    }

    /// Removes from a directory what this layer did not bring.
    fn empty(&mut self, path: &RelPath, dir: &OwnedFd) -> Result<(), Error> {
        for name in disk::names(dir.as_fd()).map_err(|e| system("list", path, e))? {
            let child = path.join(name.as_bytes());
            if !self.ledger.holds(&child) {
                place::remove(dir.as_fd(), &name).map_err(|e| system("remove", &child, e))?;
            } else if let Ok(inner) = disk::open_dir(dir.as_fd(), &name) {
                self.empty(&child, &inner)?;
            }
        }
        self.open.clear();
        Ok(())
    }

    /// The directory the archive calls `raw`, made if need be.
    fn dir(&mut self, raw: &RelPath) -> Result<Dir, Error> {
        match self.walk(raw, true)? {
            Some(dir) => Ok(dir),
            None => Err(refuse(raw, "no such directory")),
        }
    }

    /// The directory the archive calls `raw`, if it is there.
    fn find_dir(&mut self, raw: &RelPath) -> Result<Option<Dir>, Error> {
        self.walk(raw, false)
    }

    fn walk(&mut self, raw: &RelPath, make: bool) -> Result<Option<Dir>, Error> {
        if raw.is_root() {
            return Ok(Some((RelPath::root(), Rc::clone(&self.root))));
        }
        if let Some((path, fd)) = self.open.get(raw) {
            return Ok(Some((path.clone(), Rc::clone(fd))));
        }
        // Start from the nearest directory known.
        let parent = raw.parent().unwrap_or_default();
        let Some(mut at) = self.walk(&parent, make)? else { return Ok(None) };
        let mut todo: VecDeque<Vec<u8>> = VecDeque::from([raw.name().to_vec()]);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                let up = at.0.parent().unwrap_or_default();
                at = self.reopen(&up)?;
                continue;
            }
            let path = at.0.join(&name);
            let name = OsStr::from_bytes(&name);
            match disk::open_dir(at.1.as_fd(), name) {
                Ok(fd) => at = (path, Rc::new(fd)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if !make {
                        return Ok(None);
                    }
                    place::make_dir(at.1.as_fd(), name).map_err(|e| system("create directory", &path, e.into()))?;
                    self.ledger.imply(path.clone());
                    let fd = disk::open_dir(at.1.as_fd(), name).map_err(|e| system("open", &path, e))?;
                    at = (path, Rc::new(fd));
                }
                // Not a directory, or a link: O_NOFOLLOW refuses links so that we walk them ourselves.
                Err(_) => {
                    let node = disk::look(at.1.as_fd(), name).map_err(|e| system("look at", &path, e))?;
                    match node.kind {
                        Some(Kind::Symlink { target }) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(refuse(raw, "too many levels of symbolic links"));
                            }
                            if target.starts_with(b"/") {
                                at = (RelPath::root(), Rc::clone(&self.root));
                            }
                            let names = target.split(|&b| b == b'/').filter(|n| !n.is_empty() && *n != b".");
                            for name in names.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev() {
                                todo.push_front(name);
                            }
                        }
                        // A whiteout of this very layer, now followed by something inside.
                        Some(_) if make && self.ledger.has_whiteout(&path) => {
                            place::remove(at.1.as_fd(), name).map_err(|e| system("remove", &path, e))?;
                            place::make_dir(at.1.as_fd(), name)
                                .map_err(|e| system("create directory", &path, e.into()))?;
                            self.mark_opaque(at.1.as_fd(), name, &path)?;
                            self.ledger.take_away(&path);
                            self.ledger.imply(path.clone());
                            self.ledger.set_opaque(path.clone());
                            todo.push_front(name.as_bytes().to_vec());
                        }
                        _ if !make => return Ok(None),
                        _ => return Err(refuse(raw, format!("{path} is not a directory"))),
                    }
                }
            }
        }
        if self.open.len() >= OPEN_DIRS {
            self.open.clear();
        }
        self.open.insert(raw.clone(), (at.0.clone(), Rc::clone(&at.1)));
        Ok(Some(at))
    }

    /// The directory at a real path, which holds no link.
    fn reopen(&self, path: &RelPath) -> Result<Dir, Error> {
        let fd = disk::open_dir_at(self.root.as_fd(), path).map_err(|e| system("open", path, e))?;
        Ok((path.clone(), Rc::new(fd)))
    }

    fn finish(mut self, diff_id: DiffId, plain_size: u64) -> Result<Applied, Error> {
        self.open.clear();
        let implied: Vec<RelPath> = self.ledger.implied().cloned().collect();
        let plain = Meta { mode: 0o755, mtime: Timestamp::EPOCH, ..Meta::default() };
        let described = self.ledger.dirs().map(|(path, meta)| (path.clone(), meta.clone()));
        let mut dirs: Vec<(RelPath, Meta)> = described.collect();
        dirs.extend(implied.iter().map(|path| (path.clone(), plain.clone())));
        dirs.sort_by(|a, b| b.0.cmp(&a.0));
        for (path, meta) in dirs {
            self.seal_dir(&path, &meta)?;
        }
        self.recorded_only.sort();
        self.recorded_only.dedup();
        let recorded_only = self.recorded_only;
        Ok(Applied { tree: self.ledger.into_tree(), diff_id, plain_size, implied, recorded_only })
    }

    fn settle_dir(&mut self, path: &RelPath, meta: &Meta) -> Result<(), Error> {
        let (_, fd) = self.reopen(path)?;
        self.own(path, fd.as_fd(), OsStr::new("."), meta)?;
        self.seal_dir(path, meta)
    }

    /// Mode and time of a directory, when nothing will be put into it any more.
    fn seal_dir(&mut self, path: &RelPath, meta: &Meta) -> Result<(), Error> {
        let (_, fd) = self.reopen(path)?;
        let mode = rustix::fs::Mode::from_raw_mode(self.mode_on_disk(meta, true));
        rustix::fs::fchmod(&*fd, mode).map_err(|e| system("set mode of", path, e.into()))?;
        place::set_file_mtime(fd.as_fd(), meta.mtime).map_err(|e| system("set time of", path, e))
    }
}

/// The limit a stream ran into, if that is why it ended.
pub(super) fn system(operation: &'static str, path: &RelPath, source: io::Error) -> Error {
    Error::System { operation, path: path.clone(), source }
}

fn refuse(path: &RelPath, reason: impl Into<String>) -> Error {
    Error::Entry { path: path.clone(), reason: reason.into() }
}

impl Error {
    /// Whether the archive was refused for its size rather than its form.
    pub fn is_limit(&self) -> bool {
        match self {
            Error::Limit { .. } => true,
            Error::Stream(e) => e.get_ref().is_some_and(|inner| inner.is::<TooMuch>()),
            _ => false,
        }
    }
}
