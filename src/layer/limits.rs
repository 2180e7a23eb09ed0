//! How much an archive may ask for before it is refused (S-39).

use std::io;

use crate::base::cancel::Cancel;

use super::entry::{Entry, EntryKind};
use super::error::Error;

/// Bounds on a hostile archive. Memory stays far below them: they bound time, disk and inodes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of a path or link target.
    pub path_bytes: usize,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of one entry's extended headers (long names, attributes, sparse map).
    pub header_bytes: u64,
    /// Bytes of global extended headers, which every entry has to be read with.
    pub global_bytes: u64,
    /// Bytes of names, link targets and attributes that one layer may make us remember, directories that it only
    /// implies included.
    pub tree_bytes: u64,
    /// Bytes of the archive once decompressed, holes of sparse files included.
    pub total_bytes: u64,
    /// Decompressed bytes per compressed byte, looked at once [`Limits::ratio_floor`] bytes came out.
    pub ratio: u64,
    /// The same for xz, which cannot reach that: of nothing but zeroes it makes some 6,900th.
    pub xz_ratio: u64,
    /// Below this many bytes no ratio is suspicious: an empty disk image compresses as well as a bomb.
    pub ratio_floor: u64,
    /// Bytes of files, holes included, per byte that the archive holds of them, looked at once
    /// [`Limits::hole_floor`] bytes came together: a hole costs no disk, but hashing.
    pub hole_ratio: u64,
    /// Below this many bytes holes are as large as they like: an empty disk image is nothing else.
    pub hole_floor: u64,
    /// Base-2 logarithm of the largest zstd window, and of the memory xz may take.
    pub window_log: u32,
    /// Until when it may be read: `ECANCELED` once this is set.
    pub stop: Option<Cancel>,
}

impl Limits {
    /// The usual ones, until `stop` is set.
    pub(crate) fn until(stop: &Cancel) -> Self {
        Self { stop: Some(stop.clone()), ..Self::default() }
    }

    /// Ok: reading was not cancelled.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.stop.as_ref().map_or(Ok(()), Cancel::check)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            path_bytes: 4096,
            depth: 1024,
            header_bytes: 1 << 20,
            global_bytes: 16 << 10,
            tree_bytes: 1 << 29,
            total_bytes: 1 << 37,
            // Deflate cannot reach it. Zstd frames of 1 MiB, as kiln writes them, reach 25,600; only bombs reach more: a
            // stream of zeros reaches 32,768.
            ratio: 28_000,
            xz_ratio: 5_000,
            ratio_floor: 1 << 30,
            hole_ratio: 10_000,
            hole_floor: 1 << 35,
            window_log: 27,
            stop: None,
        }
    }
}

/// The longest name that file systems take.
const NAME: usize = 255;
/// The longest target of a symbolic link that the kernel takes.
const LINK: usize = 4095;
/// The longest name and value of an attribute that the kernel takes.
const XATTR: (usize, usize) = (255, 64 << 10);

/// Ok: the entry can be read back and unpacked on Linux. Checked when a layer is written, so that it does not fail later (N-10).
pub(super) fn check_entry(entry: &Entry) -> Result<(), Error> {
    let (limits, path) = (Limits::default(), &entry.path);
    let components = || path.components();
    let xattrs = &entry.meta.xattrs;
    let attributes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let link = match &entry.kind {
        EntryKind::Symlink { target } => target.len(),
        _ => 0,
    };
    let reason = match () {
        () if components().count() > limits.depth => "it is more than 1024 directories deep",
        // A directory has a slash at its end.
        () if path.as_bytes().len() >= limits.path_bytes => "its path is longer than 4095 bytes",
        () if components().any(|name| name.len() > NAME) => "a name in it is longer than 255 bytes",
        () if link > LINK => "its target is longer than 4095 bytes",
        () if xattrs.iter().any(|(name, value)| name.len() > XATTR.0 || value.len() > XATTR.1) => {
            "it has an attribute that is longer than the kernel allows"
        }
        // Names, lengths and quotes in the header come on top.
        () if attributes as u64 > limits.header_bytes / 2 => "its attributes are longer than 512 KiB",
        () => return Ok(()),
    };
    Err(Error::NotRepresentable { path: path.clone(), reason })
}
