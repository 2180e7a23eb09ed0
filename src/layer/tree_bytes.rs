//! The stored form of a tree.
//!
//! **On disk.** `kilntree`, one byte of version, the number of entries, the entries, the BLAKE3 of all that. Numbers are LEB128;
//! a path is the length it shares with the one before and the rest. Changing anything here needs a new [`VERSION`]; old files are
//! then derived again from their blobs.

use std::io::{self, BufRead, Read as _, Write};

use crate::base::digest::{ContentDigest, Sha256};
use crate::base::time::Timestamp;

use super::attributes::Attributes;
use super::entry::{Entry, EntryKind, Meta, RelPath};

/// The version of the format.
pub(super) const VERSION: u8 = 2;
const MAGIC: &[u8] = b"kilntree";

const FILE: u8 = 0;
const FILE_DIGEST: u8 = 1;
const DIR: u8 = 2;
const SYMLINK: u8 = 3;
const HARDLINK: u8 = 4;
const CHAR: u8 = 5;
const BLOCK: u8 = 6;
const FIFO: u8 = 7;
const WHITEOUT: u8 = 8;
const OPAQUE: u8 = 9;

/// The number of bytes written or read at a time.
const PIECE: usize = 64 << 10;
/// Bytes of the digest at the end.
const SUM: u64 = 32;

/// Bytes that are not a tree this version understands.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTree {
    /// Written by another version of the format: derive the tree again.
    #[error("layer tree of format {0}, not {want}", want = VERSION)]
    Version(u8),
    /// Cut short or damaged.
    #[error("damaged layer tree")]
    Damaged,
}

pub(super) fn encode(entries: &[Entry], to: &mut dyn Write) -> io::Result<()> {
    let (mut out, mut sum) = (Vec::new(), blake3::Hasher::new());
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    number(&mut out, entries.len() as u64);
    let mut last: &[u8] = &[];
    for entry in entries {
        let path = entry.path.as_bytes();
        let shared = path.iter().zip(last).take_while(|(a, b)| a == b).count();
        number(&mut out, shared as u64);
        bytes(&mut out, &path[shared..]);
        last = path;
        kind(&mut out, &entry.kind);
        if !entry.kind.is_marker() {
            meta(&mut out, &entry.meta);
        }
        if out.len() >= PIECE {
            sum.update(&out);
            to.write_all(&out)?;
            out.clear();
        }
    }
    sum.update(&out);
    to.write_all(&out)?;
    to.write_all(sum.finalize().as_bytes())
}

fn kind(out: &mut Vec<u8>, kind: &EntryKind) {
    match kind {
        EntryKind::File { size, content } => {
            out.push(if content.is_some() { FILE_DIGEST } else { FILE });
            number(out, *size);
            if let Some(ContentDigest(Sha256(digest))) = content {
                out.extend_from_slice(digest);
            }
        }
        EntryKind::Dir => out.push(DIR),
        EntryKind::Symlink { target } => {
            out.push(SYMLINK);
            bytes(out, target);
        }
        EntryKind::Hardlink { target } => {
            out.push(HARDLINK);
            bytes(out, target.as_bytes());
        }
        EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
            out.push(if matches!(kind, EntryKind::Char { .. }) { CHAR } else { BLOCK });
            number(out, u64::from(*major));
            number(out, u64::from(*minor));
        }
        EntryKind::Fifo => out.push(FIFO),
        EntryKind::Whiteout => out.push(WHITEOUT),
        EntryKind::Opaque => out.push(OPAQUE),
    }
}

fn meta(out: &mut Vec<u8>, meta: &Meta) {
    number(out, u64::from(meta.mode));
    number(out, u64::from(meta.uid));
    number(out, u64::from(meta.gid));
    // Zigzag, so that times around the epoch stay short.
    number(out, ((meta.mtime.secs << 1) ^ (meta.mtime.secs >> 63)) as u64);
    number(out, u64::from(meta.mtime.nanos));
    number(out, meta.xattrs.len() as u64);
    for (name, value) in &meta.xattrs {
        bytes(out, name);
        bytes(out, value);
    }
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Reads `len` bytes back.
pub(super) fn decode(mut from: impl BufRead, len: u64) -> io::Result<Vec<Entry>> {
    let body = len.checked_sub(SUM).ok_or_else(damaged)?;
    let summed = Summed { from: from.by_ref().take(body), sum: blake3::Hasher::new(), piece: Vec::new(), at: 0 };
    let mut input = Input { from: summed, bytes: Vec::new() };
    if input.take(MAGIC.len() as u64)? != MAGIC {
        return Err(damaged());
    }
    match input.byte()? {
        VERSION => {}
        other => return Err(bad(BadTree::Version(other))),
    }
    let count = input.number()?;
    // An entry takes at least three bytes: a damaged count must not reserve memory.
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(len / 3) as usize);
    let mut path = Vec::new();
    for _ in 0..count {
        let shared = input.number()? as usize;
        let rest = input.bytes()?;
        if shared > path.len() {
            return Err(damaged());
        }
        path.truncate(shared);
        path.extend_from_slice(rest);
        let name = RelPath::parse(&path).map_err(|_| damaged())?;
        let kind = input.kind()?;
        let meta = if kind.is_marker() { Meta::default() } else { input.meta()? };
        let entry = Entry::new(name, kind, meta);
        if entries.last().is_some_and(|last| last.order(&entry).is_ge()) {
            return Err(damaged());
        }
        entries.push(entry);
    }
    let whole = input.from.fill_buf()?.is_empty();
    let sum = input.from.sum.finalize();
    let mut stored = Vec::new();
    from.read_to_end(&mut stored)?;
    if whole && stored == sum.as_bytes() { Ok(entries) } else { Err(damaged()) }
}

/// A reader that digests its bytes, in large pieces.
struct Summed<R> {
    from: R,
    sum: blake3::Hasher,
    piece: Vec<u8>,
    at: usize,
}

impl<R: io::Read> io::Read for Summed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: io::Read> BufRead for Summed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.piece.clear();
            self.at = 0;
            self.from.by_ref().take(PIECE as u64).read_to_end(&mut self.piece)?;
            self.sum.update(&self.piece);
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

fn bad(tree: BadTree) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, tree)
}

fn damaged() -> io::Error {
    bad(BadTree::Damaged)
}

struct Input<R> {
    from: R,
    /// The bytes taken last.
    bytes: Vec<u8>,
}

impl<R: BufRead> Input<R> {
    fn take(&mut self, n: u64) -> io::Result<&[u8]> {
        self.bytes.clear();
        // A damaged length must not reserve memory either.
        match self.from.by_ref().take(n).read_to_end(&mut self.bytes)? as u64 == n {
            true => Ok(&self.bytes),
            false => Err(damaged()),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let byte = *self.from.fill_buf()?.first().ok_or_else(damaged)?;
        self.from.consume(1);
        Ok(byte)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(damaged())
    }

    fn small(&mut self) -> io::Result<u32> {
        u32::try_from(self.number()?).map_err(|_| damaged())
    }

    fn bytes(&mut self) -> io::Result<&[u8]> {
        let len = self.number()?;
        self.take(len)
    }

    fn kind(&mut self) -> io::Result<EntryKind> {
        Ok(match self.byte()? {
            FILE => EntryKind::File { size: self.number()?, content: None },
            FILE_DIGEST => {
                let size = self.number()?;
                let digest = self.take(32)?.try_into().map_err(|_| damaged())?;
                EntryKind::File { size, content: Some(ContentDigest(Sha256(digest))) }
            }
            DIR => EntryKind::Dir,
            SYMLINK => EntryKind::Symlink { target: self.bytes()?.to_vec() },
            HARDLINK => EntryKind::Hardlink { target: RelPath::parse(self.bytes()?).map_err(|_| damaged())? },
            CHAR => EntryKind::Char { major: self.small()?, minor: self.small()? },
            BLOCK => EntryKind::Block { major: self.small()?, minor: self.small()? },
            FIFO => EntryKind::Fifo,
            WHITEOUT => EntryKind::Whiteout,
            OPAQUE => EntryKind::Opaque,
            _ => return Err(damaged()),
        })
    }

    fn meta(&mut self) -> io::Result<Meta> {
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let zigzag = self.number()?;
        let secs = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let nanos = self.small()?;
        let mut xattrs = Attributes::default();
        for _ in 0..self.number()? {
            let name = self.bytes()?.to_vec();
            let value = self.bytes()?.to_vec();
            xattrs.insert(name, value);
        }
        Ok(Meta { mode, uid, gid, mtime: Timestamp { secs, nanos }, xattrs })
    }
}
