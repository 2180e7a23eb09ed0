//! A context directory as a source tree.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::{Error, Excluded};
use super::file::{Content, Meta, Node, Xattrs};
use super::ignore::{IgnoreFile, Matcher};
use super::statindex::StatIndex;
use super::tree::SourceTree;
use super::walk::{self, Walk};
use crate::base::cancel::Cancel;
use crate::base::digest::{Hasher, Sha256};
use crate::base::fs::FsError;
use crate::base::rooted::Root;
use crate::base::sparse::{MOST, SparseFile, SparseRead};
use crate::base::time::Timestamp;

/// The longest attribute and list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_XATTR: usize = 64 * 1024;

/// How much of a long file is read at once.
const PIECE: u64 = 1 << 20;

/// How a directory becomes a tree.
#[derive(Clone, Debug, Default)]
pub struct DirOptions {
    /// The rules to apply; none for contexts that were fetched (G-2).
    pub ignore: Option<IgnoreFile>,
    /// The file of the stat index, if there is one.
    pub index: Option<PathBuf>,
    /// Report the files' owners instead of 0:0 (C-15).
    pub owners: bool,
    /// Reading fails once this is set.
    pub stop: Option<Cancel>,
}

/// A directory after its ignore rules.
pub struct Dir {
    root: Root,
    ignore: Matcher,
    index: StatIndex,
    index_path: Option<PathBuf>,
    owners: bool,
    stop: Option<Cancel>,
}

/// A piece of a file that was read: a number of bytes in a buffer, or of zeros.
#[derive(Clone, Copy)]
enum Piece {
    Bytes(usize),
    Zeros(u64),
}

impl Piece {
    fn len(self) -> u64 {
        match self {
            Self::Bytes(n) => n as u64,
            Self::Zeros(n) => n,
        }
    }

    fn digest(self, buffer: &[u8], hasher: &mut Hasher) {
        match self {
            Self::Bytes(n) => hasher.update(&buffer[..n]),
            Self::Zeros(n) => hasher.zeros(n),
        }
    }
}

impl Dir {
    /// Opens the directory at `path`. Its files are listed and read on demand.
    pub fn open(path: &Path, options: &DirOptions) -> Result<Self, Error> {
        let root = Root::open(path).map_err(|e| FsError::new("open context", path, e))?;
        Self::from_root(root, options)
    }

    /// A directory that is open already.
    fn from_root(root: Root, options: &DirOptions) -> Result<Self, Error> {
        let ignore = options.ignore.as_ref().map(Matcher::parse).transpose()?.unwrap_or_default();
        let index = options.index.as_deref().map(StatIndex::load).transpose()?.unwrap_or_default();
        let (index_path, stop) = (options.index.clone(), options.stop.clone());
        Ok(Self { root, ignore, index, index_path, owners: options.owners, stop })
    }

    /// Saves the stat index, if there is a file for it.
    pub fn save(&self) -> Result<(), Error> {
        self.index_path.as_deref().map_or(Ok(()), |path| self.index.save(path))
    }

    /// The directory itself, for mounting parts of it.
    pub fn root(&self) -> &Root {
        &self.root
    }

    #[cfg(test)]
    pub(super) fn index(&self) -> &StatIndex {
        &self.index
    }

    fn walk(&self) -> Walk<'_> {
        Walk::new(self.root.as_fd(), &self.ignore, self.owners)
    }

    fn stat(&self, path: &[u8]) -> Result<Option<Meta>, Error> {
        let found = walk::open(self.root.as_fd(), path, OFlags::PATH).and_then(|fd| walk::stat(fd.as_fd(), b""));
        match found {
            Ok(meta) => Ok(Some(self.normal(meta))),
            // There is nothing below a file or a link.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(Error::io("stat", path, e)),
        }
    }

    fn normal(&self, mut meta: Meta) -> Meta {
        if !self.owners {
            (meta.uid, meta.gid) = (0, 0);
        }
        meta
    }

    /// Opens a file that was a regular one. [`Dir::same`] checks that after the last byte was read; an earlier check would
    /// prove nothing.
    fn open_file(&self, path: &[u8]) -> Result<File, Error> {
        // O_NONBLOCK: if it has become a fifo, neither open nor read may block (S-92).
        let fd = walk::open(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK);
        fd.map(File::from).map_err(|e| Error::io("open", path, e))
    }

    fn same(&self, file: &File, path: &[u8], meta: &Meta) -> Result<(), Error> {
        let now = walk::stat(file.as_fd(), b"").map_err(|e| Error::io("stat", path, e))?;
        let key = |m: &Meta| (m.kind, m.size, m.mtime, m.ctime, m.inode.map(|i| (i.device, i.number)));
        if key(&now) == key(meta) { Ok(()) } else { Err(Error::Changed { path: path.to_vec() }) }
    }

    fn hash(&self, path: &[u8], meta: &Meta) -> Result<(Sha256, Xattrs), Error> {
        let file = self.open_file(path)?;
        let xattrs = xattrs(file.as_fd(), path)?;
        let mut file = SparseFile::new(file, meta.size);
        let (mut hasher, mut left) = (Hasher::new(), meta.size);
        let size = (meta.size + 1).min(PIECE) as usize;
        let (mut now, mut next) = (vec![0; size], Vec::new());
        let mut piece = self.piece(path, &mut file, &mut now, left)?;
        // The size is checked at the end: no read is needed to see that of the file.
        while let Some(read) = piece {
            left = left.checked_sub(read.len()).ok_or_else(|| Error::Changed { path: path.to_vec() })?;
            if left == 0 {
                read.digest(&now, &mut hasher);
                break;
            }
            next.resize(size, 0);
            // Long files are read by one thread and digested by another.
            let (_, ahead) =
                rayon::join(|| read.digest(&now, &mut hasher), || self.piece(path, &mut file, &mut next, left));
            piece = ahead?;
            std::mem::swap(&mut now, &mut next);
        }
        self.same(file.inner(), path, meta)?;
        match left {
            0 => Ok((hasher.finish(), xattrs)),
            _ => Err(Error::Changed { path: path.to_vec() }),
        }
    }

    /// The next piece of a file of which `left` bytes are expected; its bytes are in `buffer`.
    fn piece(
        &self,
        path: &[u8],
        file: &mut SparseFile<File>,
        buffer: &mut [u8],
        left: u64,
    ) -> Result<Option<Piece>, Error> {
        self.go_on().map_err(|e| Error::io("read", path, e))?;
        let zeros = file.zeros(left.min(MOST)).map_err(|e| Error::io("read", path, e))?;
        if zeros > 0 {
            return Ok(Some(Piece::Zeros(zeros)));
        }
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => return Ok(Some(Piece::Bytes(n))),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", path, e)),
            }
        }
    }

    /// Ok: the build was not cancelled.
    fn go_on(&self) -> Result<(), Errno> {
        let ended = self.stop.as_ref().is_some_and(Cancel::is_cancelled);
        if ended { Err(Errno::CANCELED) } else { Ok(()) }
    }

    fn read(&self, path: &[u8], meta: &Meta) -> Result<Content, Error> {
        if meta.is_file() {
            let (digest, xattrs) = self.hash(path, meta)?;
            return Ok(Content { digest: Some(digest), xattrs, ..Content::default() });
        }
        if meta.is_symlink() {
            return Ok(Content { link: self.read_link(path)?, ..Content::default() });
        }
        if meta.is_dir() {
            let fd = walk::open(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY);
            let fd = fd.map_err(|e| Error::io("open", path, e))?;
            return Ok(Content { xattrs: xattrs(fd.as_fd(), path)?, ..Content::default() });
        }
        // Other kinds have no attributes that an image may hold.
        Ok(Content::default())
    }

    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let link = walk::open(self.root.as_fd(), path, OFlags::PATH)
            .and_then(|fd| rustix::fs::readlinkat(fd, c"", Vec::new()))
            .map_err(|e| Error::io("read link", path, e))?;
        Ok(link.into_bytes())
    }
}

impl SourceTree for Dir {
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error> {
        let Some(meta) = self.stat(path)? else { return Ok(None) };
        let hidden = self.ignore.excludes(path) && !(meta.is_dir() && self.walk().shows(path)?);
        Ok((!hidden).then_some(meta))
    }

    fn children(&self, dir: &[u8]) -> Result<Vec<Node>, Error> {
        self.walk().children(dir)
    }

    fn content(&self, path: &[u8], meta: &Meta) -> Result<Content, Error> {
        if let Some(known) = self.index.known(path, meta) {
            return Ok(known);
        }
        let began = Timestamp::now();
        let content = self.read(path, meta)?;
        self.index.learn(path, meta, &content, began);
        Ok(content)
    }

    fn open(&self, path: &[u8], meta: &Meta) -> Result<Box<dyn SparseRead + Send + '_>, Error> {
        if meta.size == 0 {
            return Ok(Box::new(io::empty()));
        }
        let file = self.open_file(path)?;
        let doubtful = self.index.doubtful(path).map(|digest| (digest, Hasher::new()));
        let (path, meta, left) = (path.to_vec(), *meta, meta.size);
        let file = SparseFile::new(file, left);
        Ok(Box::new(Unchanged { dir: self, file, path, meta, left, checked: false, doubtful }))
    }

    fn walk(&self, top: &[u8], exclude: &[&Matcher]) -> Result<Vec<Node>, Error> {
        self.walk().below(top, exclude)
    }

    fn hidden(&self, top: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        if self.ignore.is_empty() || self.stat(top)?.is_none_or(|meta| !meta.is_dir()) {
            return Ok(Vec::new());
        }
        self.walk().hidden(top)
    }

    fn excluded_by(&self, path: &[u8]) -> Option<Excluded> {
        let there = self.stat(path).is_ok_and(|found| found.is_some());
        self.ignore.excluded_by(path).filter(|_| there)
    }
}

/// Reads a file and fails if it changes until its last byte (S-93).
struct Unchanged<'a> {
    dir: &'a Dir,
    file: SparseFile<File>,
    path: Vec<u8>,
    meta: Meta,
    left: u64,
    checked: bool,
    /// For a file whose times may not show a change: the digest that its bytes must have.
    doubtful: Option<(Sha256, Hasher)>,
}

impl Read for Unchanged<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The size was checked with the last bytes: no read is needed to see the end.
        if buf.is_empty() || self.checked {
            return Ok(0);
        }
        self.dir.go_on()?;
        let n = self.file.read(buf)?;
        let changed = || io::Error::other(Error::Changed { path: self.path.clone() });
        let left = self.left.checked_sub(n as u64).filter(|&left| n > 0 || left == 0).ok_or_else(changed)?;
        if let Some((_, hasher)) = &mut self.doubtful {
            hasher.update(&buf[..n]);
        }
        self.left = left;
        self.check().map(|()| n)
    }
}

impl SparseRead for Unchanged<'_> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        if self.checked {
            return Ok(0);
        }
        self.dir.go_on()?;
        // `read` finds bytes beyond the size.
        let n = self.file.zeros(max.min(self.left))?;
        if let Some((_, hasher)) = &mut self.doubtful {
            hasher.zeros(n);
        }
        self.left -= n;
        if n > 0 { self.check().map(|()| n) } else { Ok(0) }
    }
}

impl Unchanged<'_> {
    /// Checks together with the last bytes: a reader that knows the size may not read on to the end.
    fn check(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Ok(());
        }
        self.dir.same(self.file.inner(), &self.path, &self.meta).map_err(io::Error::other)?;
        if self.doubtful.take().is_some_and(|(want, hasher)| hasher.finish() != want) {
            return Err(io::Error::other(Error::Changed { path: self.path.clone() }));
        }
        self.checked = true;
        Ok(())
    }
}

/// The attributes of an open file that an image may hold; `path` is for the message. Labels of this host
/// (`security.selinux`), ACLs and attributes of overlayfs are left out (C-14, S-37).
fn xattrs(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Xattrs, Error> {
    let mut names = vec![0; 1024];
    let len = match rustix::fs::flistxattr(fd, &mut names) {
        Err(Errno::RANGE) => {
            names = vec![0; MAX_XATTR];
            rustix::fs::flistxattr(fd, &mut names)
        }
        other => other,
    };
    match len {
        Ok(len) => names.truncate(len),
        Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Err(e) => return Err(Error::io("list attributes of", path, e)),
    }
    let mut xattrs = Xattrs::new();
    for name in names.split(|&b| b == 0).filter(|name| belongs(name)) {
        let mut value = vec![0; MAX_XATTR];
        match rustix::fs::fgetxattr(fd, name, &mut value) {
            Ok(len) => xattrs.insert(name.to_vec(), value[..len].to_vec()),
            Err(Errno::NODATA) => None,
            Err(e) => return Err(Error::io("read attribute of", path, e)),
        };
    }
    Ok(xattrs)
}

fn belongs(name: &[u8]) -> bool {
    let ours = |name: &[u8]| name.starts_with(b"user.overlay.") || name == b"user.kiln.owner";
    name == b"security.capability" || (name.starts_with(b"user.") && !ours(name))
}
