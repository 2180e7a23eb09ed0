//! Archives that ADD unpacks (C-26, C-27).
//!
//! **Holds.** A file is an archive if its content, decompressed, begins with a tar header. Entries stay inside the destination:
//! they are placed into the tree like copied files, so no link of an archive is ever followed on the host (S-31…S-34).
//! **On disk.** An archive is read once, front to back. The bytes of its files are kept in one unnamed file until the layer,
//! which has another order, needs them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::digest::{ContentDigest, Hasher};
use crate::base::fs::{self, FsError};
use crate::base::sparse::{self, Run, SparseFile, SparseRead, SparseWriter};
use crate::context::{Matcher, Selected};
use crate::layer::{self, Dialect, Entry, EntryKind, Format, Limits, RelPath, TarReader};

use super::Error;
use super::item::Item;
use super::owner::Owner;
use super::place::{Placer, has_mode};
use super::view::{Data, Placed, View};
use crate::plan::Mode;

/// Reads to the end of the stream: compressed data have their checksum there (S-40), and a process that writes to a pipe
/// must not be left with an error.
pub(super) fn drain(tar: TarReader<impl SparseRead>) -> io::Result<()> {
    sparse::drain(&mut tar.into_inner(), &mut vec![0; 64 << 10], |_| Ok(()))
}

/// A tar header's size.
const BLOCK: usize = 512;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// An archive's entries, and its files' bytes.
pub(super) struct Spool {
    name: String,
    entries: Vec<(Entry, u64)>,
    file: File,
}

impl Spool {
    /// Unpacks `selected` of `item`, without what `exclude` matches. `None`: it is not an archive.
    pub(super) fn fill(
        item: &Item<'_>,
        selected: &Selected,
        exclude: &Matcher,
        scratch: &Path,
    ) -> Result<Option<Self>, Error> {
        let name = match item.source {
            0 => String::from_utf8_lossy(&selected.path).into_owned(),
            _ => item.name.clone(),
        };
        let limits = Limits::default();
        let fail = |source| Error::Archive { name: name.clone(), source };
        let reader = item.tree().open(&selected.path, &selected.meta)?;
        let (format, mut reader) = layer::decompress(reader, &limits).map_err(|e| fail(layer::Error::Stream(e)))?;
        let mut head = Vec::with_capacity(BLOCK);
        match (&mut reader).take(BLOCK as u64).read_to_end(&mut head) {
            // A truncated file may have been an archive: it must not be copied as a file.
            Err(e) if format != Format::Plain && e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::CutShort { name });
            }
            // Something that only begins like a compressed stream is not an archive.
            Err(_) => return Ok(None),
            Ok(_) if !is_header(&head) => return Ok(None),
            Ok(_) => {}
        }
        let tar = TarReader::new(Rejoined { head: io::Cursor::new(head), rest: reader }, Dialect::Plain, limits);
        let (entries, file) = spool(tar, &name, exclude, scratch)?;
        Ok(Some(Self { name, entries, file }))
    }

    /// Places the entries below the destination, which becomes a directory. `spool` is the number of this archive.
    pub(super) fn place(&mut self, placer: &mut Placer<'_>, spool: usize) -> Result<(), Error> {
        let dest = placer.dest_dir()?;
        for (entry, at) in std::mem::take(&mut self.entries) {
            if entry.path.components().any(|name| name.starts_with(b".wh.")) {
                return Err(Error::ArchiveMarker { name: self.name.clone(), path: entry.path });
            }
            let data = Data::Spool { spool, at };
            place(&mut placer.view, placer.owner, placer.mode.as_ref(), &dest, entry, data)
                .map_err(|e| e.in_archive(&self.name))?;
        }
        Ok(())
    }

    /// `size` bytes from `at` on.
    pub(super) fn read(&self, at: u64, size: u64) -> SparseFile<&File> {
        SparseFile::part(&self.file, at, size)
    }
}

/// Reads an archive to its end: its entries with the offset of their bytes in the file that is returned.
fn spool(
    mut tar: TarReader<impl SparseRead>,
    name: &str,
    exclude: &Matcher,
    scratch: &Path,
) -> Result<(Vec<(Entry, u64)>, File), Error> {
    let fail = |source| Error::Archive { name: name.to_owned(), source };
    let mut out = io::BufWriter::with_capacity(256 * 1024, SparseWriter::new(unnamed(scratch)?));
    let mut at = 0;
    let mut entries = Vec::new();
    let mut buffer = vec![0; 128 * 1024];
    while let Some(mut entry) = tar.next_entry().map_err(fail)? {
        if exclude.excludes(entry.path.as_bytes()) {
            continue;
        }
        let start = at;
        if let EntryKind::File { content, .. } = &mut entry.kind {
            let mut hasher = Hasher::new();
            sparse::drain::<CopyError>(&mut tar, &mut buffer, |run| {
                match run {
                    Run::Bytes(bytes) => {
                        hasher.update(bytes);
                        at += bytes.len() as u64;
                        out.write_all(bytes)
                    }
                    Run::Zeros(count) => {
                        hasher.zeros(count);
                        at += count;
                        out.flush().map(|()| out.get_mut().zeros(count))
                    }
                }
                .map_err(CopyError::Write)
            })
            .map_err(|error| match error {
                CopyError::Read(e) => fail(layer::Error::Stream(e)),
                CopyError::Write(e) => FsError::new("write", scratch, e).into(),
            })?;
            *content = Some(ContentDigest(hasher.finish()));
        }
        entries.push((entry, start));
    }
    drain(tar).map_err(|e| fail(layer::Error::Stream(e)))?;
    let out = out.into_inner().map_err(|e| FsError::new("write", scratch, e.into_error()))?;
    let file = out.finish().map_err(|e| FsError::new("write", scratch, e))?;
    Ok((entries, file))
}

/// Places one entry. Symlinks in its path are followed inside the root (S-31); what is at the path is replaced (S-34).
pub(super) fn place(
    view: &mut View<'_>,
    owner: Option<Owner>,
    mode: Option<&Mode>,
    dest: &RelPath,
    entry: Entry,
    data: Data,
) -> Result<(), Error> {
    // The entry of the archive's root does not change the destination.
    let Some(parent) = entry.path.parent() else { return Ok(()) };
    let parent = view.resolve_below(dest, parent.as_bytes())?;
    view.imply_dir(&parent)?;
    let path = parent.join(entry.path.name());
    let mut meta = entry.meta;
    if let Some(owner) = owner {
        (meta.uid, meta.gid) = (owner.uid, owner.gid);
    }
    if let Some(mode) = mode.filter(|_| has_mode(&entry.kind)) {
        meta.mode = mode.apply(meta.mode, entry.kind == EntryKind::Dir);
    }
    let placed = match entry.kind {
        EntryKind::Hardlink { target } => {
            let dir = view.resolve_below(dest, target.parent().unwrap_or_default().as_bytes())?;
            let target = dir.join(target.name());
            if target == path {
                return Ok(());
            }
            match view.link(&target) {
                Some(placed) => placed,
                None => return Err(Error::LinkTarget { path, target }),
            }
        }
        kind @ EntryKind::File { .. } => Placed { kind, meta, data, inode: None },
        kind => Placed { kind, meta, data: Data::None, inode: None },
    };
    if placed.kind != EntryKind::Dir || !view.is_dir(&path) {
        view.clear(&path);
    }
    view.put(path, placed);
    Ok(())
}

/// Whether `block` is a tar header with a valid checksum, or the end of an empty archive.
pub(super) fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK {
        return false;
    }
    let digits: Vec<u8> = block[148..156].iter().copied().filter(|b| !matches!(b, b' ' | 0)).collect();
    let Some(stated) = std::str::from_utf8(&digits).ok().and_then(|d| u64::from_str_radix(d, 8).ok()) else {
        return false;
    };
    let byte = |(at, &b): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { b };
    let sum: u64 = block.iter().enumerate().map(|b| u64::from(byte(b))).sum();
    let signed: i64 = block.iter().enumerate().map(|b| i64::from(byte(b) as i8)).sum();
    stated == sum || i64::try_from(stated) == Ok(signed)
}

/// A file without a name, which disappears with the process.
fn unnamed(dir: &Path) -> Result<File, FsError> {
    let path = dir.join(format!("spool-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_new(&path)?;
    let file = File::options().read(true).write(true).open(&path).map_err(|e| FsError::new("open", &path, e))?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// A stream with a part that was read before in front of it.
struct Rejoined<R> {
    head: io::Cursor<Vec<u8>>,
    rest: R,
}

impl<R: Read> Read for Rejoined<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buf)? {
            0 => self.rest.read(buf),
            n => Ok(n),
        }
    }
}

impl<R: SparseRead> SparseRead for Rejoined<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        if self.head.position() < self.head.get_ref().len() as u64 { Ok(0) } else { self.rest.zeros(max) }
    }
}

/// Which side of a copy failed.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        CopyError::Read(error)
    }
}
