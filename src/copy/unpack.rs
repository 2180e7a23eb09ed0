//! Unpacks an archive that is a build context into a directory.
//!
//! **Holds.** Entries are placed into a tree first, which resolves all links and replacements. Then that tree is written, in
//! order, into a directory that nobody else writes to. No path in it passes through a symlink (S-24, S-25, S-30…S-35).

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::Error;
use super::archive::{drain, is_header, place};
use super::view::{Data, View};
use crate::base::fs::{self, FsError};
use crate::base::sparse::{self, Dense, Run, SparseWriter};
use crate::layer::{self, Dialect, Entry, EntryKind, Format, Limits, MergedTree, RelPath, TarReader};

/// A tar header's size.
const BLOCK: u64 = 512;

/// A stream, by its content.
pub(crate) enum Stream<R> {
    /// A tar archive, compressed or not.
    Archive(R),
    /// Anything else.
    Other(R),
}

/// Detects whether `from` is an archive. The returned reader begins where `from` began.
pub(crate) fn sniff<R: Read>(mut from: R) -> io::Result<Stream<impl Read + use<R>>> {
    let mut head = Vec::new();
    (&mut from).take(BLOCK).read_to_end(&mut head)?;
    let archive = Format::of(&head) != Format::Plain || is_header(&head);
    let from = io::Cursor::new(head).chain(from);
    Ok(if archive { Stream::Archive(from) } else { Stream::Other(from) })
}

/// Unpacks `archive`, which messages call `name`, into the new directory `dest`. `staging` is a temporary directory on the same
/// file system, which is made and removed.
///
/// Ok: `dest` has the files of the archive, without owners, which contexts do not have (C-15).
pub(crate) fn unpack(
    archive: impl Read + Send,
    name: &str,
    staging: &Path,
    dest: &Path,
    limits: Limits,
) -> Result<(), Error> {
    let fail = |source| Error::Archive { name: name.to_owned(), source };
    fs::create_dir(staging, 0o700)?;
    fs::create_dir(dest, 0o755)?;
    let (_, reader) = layer::decompress(Dense(archive), &limits).map_err(|e| fail(layer::Error::Stream(e)))?;
    let mut tar = TarReader::new(reader, Dialect::Plain, limits);
    let below = MergedTree::new();
    let mut view = View::new(&below);
    let mut number = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Some(entry) = tar.next_entry().map_err(fail)? {
        let mut data = Data::None;
        if matches!(entry.kind, EntryKind::File { .. }) {
            let path = staged(staging, number);
            let mut file = SparseWriter::new(fs::create_new(&path)?);
            let mut filled = sparse::drain(&mut tar, &mut buffer, |run| match run {
                Run::Bytes(bytes) => file.write_all(bytes),
                Run::Zeros(count) => {
                    file.zeros(count);
                    Ok(())
                }
            });
            filled = filled.and_then(|()| file.set_len());
            filled.map_err(|e: io::Error| match e.raw_os_error() {
                Some(_) => FsError::new("write", &path, e).into(),
                None => fail(layer::Error::Stream(e)),
            })?;
            data = Data::Spool { spool: 0, at: number };
            number += 1;
        }
        place(&mut view, None, None, &RelPath::root(), entry, data).map_err(|e| e.in_archive(name))?;
    }
    drain(tar).map_err(|e| fail(layer::Error::Stream(e)))?;
    let mut dirs = Vec::new();
    let (entries, contents) = view.finish();
    for (entry, data) in entries.into_iter().zip(contents) {
        let path = dest.join(entry.path.as_os_str());
        make(&entry, &data, &path, staging, dest).map_err(|e| match e {
            MakeError::System(e) => Error::Fs(FsError::new("create", &path, e)),
            MakeError::Device => fail(layer::Error::NotRepresentable {
                path: entry.path.clone(),
                reason: "contexts cannot have devices",
            }),
        })?;
        if entry.kind == EntryKind::Dir {
            dirs.push((path, entry.meta));
        }
    }
    // Deepest first: creating an entry changes the time of its directory and needs its permissions.
    for (path, meta) in dirs.iter().rev() {
        set_metadata(path, meta).map_err(|e| FsError::new("set mode and time of", path, e))?;
    }
    fs::remove_tree(staging)?;
    Ok(())
}

enum MakeError {
    System(io::Error),
    Device,
}

impl From<io::Error> for MakeError {
    fn from(e: io::Error) -> Self {
        MakeError::System(e)
    }
}

impl From<Errno> for MakeError {
    fn from(e: Errno) -> Self {
        MakeError::System(e.into())
    }
}

fn make(entry: &Entry, data: &Data, path: &Path, staging: &Path, dest: &Path) -> Result<(), MakeError> {
    match &entry.kind {
        EntryKind::Dir if entry.path.is_root() => {}
        EntryKind::Dir => rustix::fs::mkdir(path, Mode::RWXU)?,
        EntryKind::File { .. } => {
            if let Data::Spool { at, .. } = data {
                rustix::fs::rename(staged(staging, *at), path)?;
            }
            set_metadata(path, &entry.meta)?;
        }
        EntryKind::Symlink { target } => {
            symlink(OsStr::from_bytes(target), path)?;
            set_time(path, &entry.meta)?;
        }
        EntryKind::Hardlink { target } => std::fs::hard_link(dest.join(target.as_os_str()), path)?,
        EntryKind::Fifo => {
            rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0)?;
            set_metadata(path, &entry.meta)?;
        }
        EntryKind::Char { .. } | EntryKind::Block { .. } => return Err(MakeError::Device),
        // The tree of an archive has no layers below it.
        EntryKind::Whiteout | EntryKind::Opaque => {}
    }
    Ok(())
}

/// Sets attributes, mode and time of anything but a symlink.
fn set_metadata(path: &Path, meta: &layer::Meta) -> io::Result<()> {
    for (name, value) in &meta.xattrs {
        match rustix::fs::lsetxattr(path, &name[..], value, XattrFlags::empty()) {
            // File systems without attributes have none for local contexts either.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    std::fs::set_permissions(path, Permissions::from_mode(meta.mode))?;
    set_time(path, meta)
}

fn set_time(path: &Path, meta: &layer::Meta) -> io::Result<()> {
    let time = Timespec { tv_sec: meta.mtime.secs, tv_nsec: meta.mtime.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn staged(staging: &Path, number: u64) -> std::path::PathBuf {
    staging.join(number.to_string())
}
