//! How much an archive may ask for before it is refused (S-39).

use std::io;

use crate::base::cancel::Cancel;

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
    /// Base-2 logarithm of the largest zstd window, and of the memory xz may take.
    pub window_log: u32,
    /// Until when it may be read: `ECANCELED` once this is set.
    pub stop: Option<Cancel>,
}

impl Limits {
    /// The usual ones, until `stop` is set.
    pub fn until(stop: &Cancel) -> Self {
        Self { stop: Some(stop.clone()), ..Self::default() }
    }

    /// Ok: nobody said that this is to end.
    pub(super) fn go_on(&self) -> io::Result<()> {
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
            // Deflate cannot reach it; a zstd stream that does is made to.
            ratio: 20_000,
            xz_ratio: 5_000,
            ratio_floor: 1 << 30,
            window_log: 27,
            stop: None,
        }
    }
}
