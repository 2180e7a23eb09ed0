//! Reading of tar archives that may be hostile, within limits (S-30, S-39…S-44).
//!
//! **Holds.** v7, ustar (with prefix), GNU (long names, base 256, sparse) and PAX (local and global headers, sparse). Names
//! are cleaned or rejected; whiteout names become markers. Invalid numbers, wrong checksums and archives that end inside an
//! entry are errors. What follows the end mark is ignored.
//! **Not here.** Links and replaced paths: `ledger`.

use std::io::{self, Read};

use super::attributes::Attributes;
use super::entry::{Entry, EntryKind, Meta, RelPath};
use super::error::Error;
use super::limits::Limits;
use super::pax::{self, Records};
use super::sparse::{self, PaxSparse, Place, SparseCursor, SparseMap};
use super::tar_fields;
use super::tar_write::{BLOCK, OPAQUE, WHITEOUT, padding};
use super::xattrs;
use crate::base::sparse::{MOST, SparseRead, read_full};
use crate::base::time::Timestamp;

/// The number of bytes skipped before the input is asked for zeros again.
const SKIP: u64 = 64 << 10;

const NO_TAR: &str = "not a tar archive";

/// What names beginning with `.wh.` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Deletions: the archive is an image layer.
    Layer,
    /// Nothing special: the archive holds files.
    Plain,
}

/// Reads one archive, entry by entry; between entries it is a reader of the current file's content.
pub(crate) struct TarReader<R> {
    input: R,
    limits: Limits,
    dialect: Dialect,
    globals: Records,
    entry: u64,
    total: u64,
    /// Bytes that the archive holds of all contents and their headers.
    held: u64,
    content: Content,
    over: bool,
}

/// The rest of the current entry.
#[derive(Default)]
struct Content {
    /// Stored bytes not read yet.
    stored: u64,
    /// Padding after them.
    padding: usize,
    sparse: Option<SparseCursor>,
}

impl Content {
    /// Counts stored bytes that were read.
    fn took(&mut self, count: u64) {
        self.stored -= count;
        if let Some(cursor) = &mut self.sparse {
            cursor.advance(count);
        }
    }
}

enum Next {
    Entry(Entry),
    Skipped,
    End,
}

/// Headers that precede the one they describe.
#[derive(Default)]
struct Extra {
    local: Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: u64,
}

impl<R: SparseRead> TarReader<R> {
    /// Reads `input`, which must be decompressed already.
    pub(crate) fn new(input: R, dialect: Dialect, limits: Limits) -> Self {
        Self {
            input,
            limits,
            dialect,
            globals: Records::new(),
            entry: 0,
            total: 0,
            held: 0,
            content: Content::default(),
            over: false,
        }
    }

    /// The next entry; unread content of the previous one is skipped. `None` at the end of the archive.
    ///
    /// A hard link has no metadata of its own. Unsupported types are errors; volume labels are skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            self.limits.go_on().map_err(Error::Stream)?;
            match self.next_or_skipped()? {
                Next::Entry(entry) => return Ok(Some(entry)),
                Next::Skipped => {}
                Next::End => return Ok(None),
            }
        }
    }

    fn next_or_skipped(&mut self) -> Result<Next, Error> {
        if self.over {
            return Ok(Next::End);
        }
        self.skip_content()?;
        let mut extra = Extra::default();
        loop {
            let Some(block) = self.header()? else {
                self.over = true;
                if extra.bytes > 0 {
                    return self.bad("archive ends after an extended header");
                }
                return Ok(Next::End);
            };
            let size = self.number(&block[124..136], "size")?;
            match block[156] {
                b'x' | b'X' => {
                    let body = self.special(size, &mut extra)?;
                    let records = pax::parse(&body).or_else(|reason| self.bad(reason))?;
                    extra.local.extend(records);
                }
                b'g' => {
                    let body = self.special(size, &mut extra)?;
                    let records = pax::parse(&body).or_else(|reason| self.bad(reason))?;
                    self.globals.extend(records);
                    // An empty value takes a global record back.
                    self.globals.retain(|_, value| !value.is_empty());
                    let held: usize = self.globals.iter().map(|(k, v)| k.len() + v.len()).sum();
                    self.limit("bytes of global headers", held as u64, self.limits.global_bytes)?;
                    // Global headers belong to no entry: they do not add up with the next one's.
                    extra.bytes = extra.local.len() as u64;
                }
                b'L' => extra.name = Some(tar_fields::text(&self.special(size, &mut extra)?).to_vec()),
                b'K' => extra.link = Some(tar_fields::text(&self.special(size, &mut extra)?).to_vec()),
                b'V' => self.skip(size)?,
                kind => {
                    self.entry += 1;
                    self.limit("entries", self.entry, self.limits.entries)?;
                    return Ok(self.finish(&block, kind, size, extra)?.map_or(Next::Skipped, Next::Entry));
                }
            }
        }
    }

    fn finish(&mut self, block: &[u8; BLOCK], kind: u8, size: u64, extra: Extra) -> Result<Option<Entry>, Error> {
        let mut records = self.globals.clone();
        records.extend(extra.local);
        records.retain(|_, value| !value.is_empty());
        let size = match records.get(&b"size"[..]) {
            Some(text) => pax::decimal(text).ok_or_else(|| self.malformed("size in an extended header"))?,
            None => size,
        };
        let raw_name = extra
            .name
            .or_else(|| records.remove(&b"GNU.sparse.name"[..]))
            .or_else(|| records.remove(&b"path"[..]))
            .unwrap_or_else(|| tar_fields::name(block));
        let raw_link = extra
            .link
            .or_else(|| records.remove(&b"linkpath"[..]))
            .unwrap_or_else(|| tar_fields::text(&block[157..257]).to_vec());
        for bytes in [&raw_name, &raw_link] {
            self.limit("bytes in a path", bytes.len() as u64, self.limits.path_bytes as u64)?;
        }
        let meta = self.meta(block, &records)?;
        let path = self.path(&raw_name)?;
        // v7 had no type for directories.
        let kind = if matches!(kind, b'0' | 0) && raw_name.ends_with(b"/") { b'5' } else { kind };
        let kind = match kind {
            b'0' | 0 | b'7' | b'S' => {
                EntryKind::File { size: self.begin_content(block, kind, size, &records)?, content: None }
            }
            b'1' => EntryKind::Hardlink { target: self.path(&raw_link)? },
            b'2' if raw_link.is_empty() || raw_link.contains(&0) => return self.bad("symlink without a target"),
            b'2' => EntryKind::Symlink { target: raw_link },
            b'3' | b'4' => {
                let major = self.small(&block[329..337], "device number")?;
                let minor = self.small(&block[337..345], "device number")?;
                if kind == b'3' { EntryKind::Char { major, minor } } else { EntryKind::Block { major, minor } }
            }
            b'5' => EntryKind::Dir,
            // GNU's directory with a listing as content.
            b'D' => {
                self.content = Content { stored: size, padding: padding(size), sparse: None };
                EntryKind::Dir
            }
            b'6' => EntryKind::Fifo,
            b'M' => return self.bad("part of a multi-volume archive"),
            other => return self.bad(format!("entry type {:?} is not supported", char::from(other))),
        };
        self.marker(Entry::new(path, kind, meta))
    }

    /// Turns whiteout names into markers. `None`: what AUFS left behind (`.wh..wh.aufs`, `.wh..wh.plnk/…`).
    fn marker(&self, entry: Entry) -> Result<Option<Entry>, Error> {
        if self.dialect == Dialect::Plain {
            return Ok(Some(entry));
        }
        let name = entry.path.name();
        let parent = entry.path.parent().unwrap_or_default();
        if name == OPAQUE {
            return self.outside_whiteouts(&parent).map(|()| Some(Entry::opaque(parent)));
        }
        if entry.path.components().any(|c| c.starts_with(b".wh..wh.")) {
            return Ok(None);
        }
        self.outside_whiteouts(&parent)?;
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Some(entry)),
            // `.wh.`, `.wh..`, `.wh...`: joined carelessly they delete the directory or its parent (S-38).
            Some(b"" | b"." | b"..") => self.bad(format!("{} is not a whiteout of anything", entry.path)),
            Some(hidden) => Ok(Some(Entry::whiteout(parent.join(hidden)))),
        }
    }

    fn outside_whiteouts(&self, dir: &RelPath) -> Result<(), Error> {
        if dir.components().any(|c| c.starts_with(WHITEOUT)) {
            return self.bad(format!("{dir} is a whiteout and holds nothing"));
        }
        Ok(())
    }

    fn meta(&self, block: &[u8; BLOCK], records: &Records) -> Result<Meta, Error> {
        let id = |key: &str, field: &[u8]| -> Result<u32, Error> {
            let id = match records.get(key.as_bytes()) {
                Some(text) => {
                    pax::decimal(text).ok_or_else(|| self.malformed(format!("{key} in an extended header")))?
                }
                None => self.number(field, key)?,
            };
            // S-42: everything the kernel can hold is kept, also where this host could not set it.
            u32::try_from(id).map_err(|_| self.malformed(format!("{key} {id} is too large")))
        };
        let mtime = match records.get(&b"mtime"[..]) {
            Some(text) => pax::time(text).ok_or_else(|| self.malformed("mtime in an extended header"))?,
            None => Timestamp::from_secs(self.signed(&block[136..148], "mtime")?),
        };
        let mut attributes = Attributes::default();
        for (key, value) in records {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|n| xattrs::belongs(n)) {
                attributes.insert(name.to_vec(), value.clone());
            }
        }
        // The upper bits repeat the type in some archives.
        let mode = (self.number(&block[100..108], "mode")? & 0o7777) as u32;
        let (uid, gid) = (id("uid", &block[108..116])?, id("gid", &block[116..124])?);
        Ok(Meta { mode, uid, gid, mtime, xattrs: attributes })
    }

    /// Sets up the content of a file with `stored` bytes in the archive; returns its true size.
    fn begin_content(&mut self, block: &[u8; BLOCK], kind: u8, stored: u64, records: &Records) -> Result<u64, Error> {
        self.content = Content { stored, padding: padding(stored), sparse: None };
        self.held = self.held.saturating_add(stored).saturating_add(BLOCK as u64);
        let (parts, size) = if kind == b'S' {
            self.old_sparse(block)?
        } else {
            match sparse::of_records(records).or_else(|reason| self.bad(reason))? {
                PaxSparse::No => {
                    self.count(stored)?;
                    return Ok(stored);
                }
                PaxSparse::Map(parts, size) => (parts, size),
                PaxSparse::InContent(size) => (self.sparse_in_content()?, size),
            }
        };
        let map = SparseMap::new(parts, size, self.content.stored).or_else(|reason| self.bad(reason))?;
        self.count(size)?;
        let limit = self.limits.hole_ratio;
        if self.total > self.limits.hole_floor && self.total / self.held > limit {
            return Err(Error::Limit { what: "bytes of files per byte of the archive", limit });
        }
        self.content.sparse = Some(SparseCursor::new(map));
        Ok(size)
    }

    fn old_sparse(&mut self, block: &[u8; BLOCK]) -> Result<(Vec<(u64, u64)>, u64), Error> {
        let size = self.number(&block[483..495], "sparse size")?;
        let mut parts = Vec::new();
        let mut take = |this: &Self, fields: &[u8]| -> Result<(), Error> {
            for field in fields.chunks_exact(24) {
                if field[..12].iter().all(|&b| b == 0) && field[12..].iter().all(|&b| b == 0) {
                    break;
                }
                parts.push((this.number(&field[..12], "sparse map")?, this.number(&field[12..], "sparse map")?));
            }
            this.limit("bytes of sparse map", parts.len() as u64 * 24, this.limits.header_bytes)
        };
        take(self, &block[386..482])?;
        let mut more = block[482] != 0;
        while more {
            let mut next = [0; BLOCK];
            self.exactly(&mut next)?;
            take(self, &next[..504])?;
            more = next[504] != 0;
        }
        Ok((parts, size))
    }

    fn sparse_in_content(&mut self) -> Result<Vec<(u64, u64)>, Error> {
        let (entry, max) = (self.entry, self.limits.header_bytes);
        sparse::in_content(
            || {
                let mut block = [0; BLOCK];
                if self.content.stored < BLOCK as u64 {
                    return self.bad("sparse map longer than the entry");
                }
                self.exactly(&mut block)?;
                self.content.stored -= BLOCK as u64;
                Ok(block)
            },
            max,
            |reason| Error::Malformed { entry, reason: reason.to_owned() },
        )
    }

    /// The next header, its sum verified. `None` at the end mark, or where the input ends between entries.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        match read_full(&mut self.input, &mut block).map_err(Error::Stream)? {
            0 => return Ok(None),
            BLOCK => {}
            _ if self.entry == 0 => return self.bad(NO_TAR),
            _ => return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into())),
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let stated = match self.number(&block[148..156], "checksum") {
            Err(_) if self.entry == 0 => return self.bad(NO_TAR),
            stated => stated?,
        };
        if !tar_fields::has_checksum(&block, stated) {
            return self.bad(if self.entry == 0 { NO_TAR } else { "header checksum is wrong" });
        }
        Ok(Some(block))
    }

    /// The body of a header that describes the next entry.
    fn special(&mut self, size: u64, extra: &mut Extra) -> Result<Vec<u8>, Error> {
        extra.bytes = extra.bytes.saturating_add(size).saturating_add(BLOCK as u64);
        self.limit("bytes of extended headers", extra.bytes, self.limits.header_bytes)?;
        let mut body = vec![0; size as usize];
        self.exactly(&mut body)?;
        self.skip(padding(size) as u64)?;
        Ok(body)
    }

    fn path(&self, raw: &[u8]) -> Result<RelPath, Error> {
        let path = RelPath::parse(raw).map_err(|source| Error::Path { entry: self.entry, source })?;
        self.limit("directories in a path", path.components().count() as u64, self.limits.depth as u64)?;
        Ok(path)
    }

    /// Counts content, holes included, before it is written to disk.
    fn count(&mut self, size: u64) -> Result<(), Error> {
        self.total = self.total.saturating_add(size);
        self.limit("bytes", self.total, self.limits.total_bytes)
    }

    fn limit(&self, what: &'static str, got: u64, limit: u64) -> Result<(), Error> {
        if got > limit { Err(Error::Limit { what, limit }) } else { Ok(()) }
    }

    fn number(&self, field: &[u8], what: &str) -> Result<u64, Error> {
        let n = self.signed(field, what)?;
        u64::try_from(n).map_err(|_| self.malformed(format!("negative {what}")))
    }

    fn small(&self, field: &[u8], what: &str) -> Result<u32, Error> {
        u32::try_from(self.number(field, what)?).map_err(|_| self.malformed(format!("{what} is too large")))
    }

    fn signed(&self, field: &[u8], what: &str) -> Result<i64, Error> {
        tar_fields::number(field).ok_or_else(|| self.malformed(format!("{what} is not a number")))
    }

    pub(super) fn skip_content(&mut self) -> Result<(), Error> {
        let content = std::mem::take(&mut self.content);
        self.skip(content.stored + content.padding as u64)
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            match self.input.zeros(left.min(MOST)).map_err(Error::Stream)? {
                // No zeros are known at this point.
                0 => {
                    let step = left.min(SKIP);
                    let skipped =
                        io::copy(&mut (&mut self.input).take(step), &mut io::sink()).map_err(Error::Stream)?;
                    if skipped < step {
                        return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into()));
                    }
                    left -= skipped;
                }
                zeros => left -= zeros,
            }
        }
        Ok(())
    }

    fn exactly(&mut self, buf: &mut [u8]) -> Result<(), Error> {
        self.input.read_exact(buf).map_err(Error::Stream)
    }

    fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed { entry: self.entry.max(1), reason: reason.into() }
    }

    fn bad<T>(&self, reason: impl Into<String>) -> Result<T, Error> {
        Err(self.malformed(reason))
    }

    /// How many bytes of the current entry's content the archive still holds.
    pub(super) fn stored(&self) -> u64 {
        self.content.stored
    }

    /// Whether the archive holds only parts of the current file.
    pub(super) fn is_sparse(&self) -> bool {
        self.content.sparse.is_some()
    }

    pub(super) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Gives the input back, wherever it is.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }
}

/// The holes of the current file, and what the input knows of its zeros.
impl<R: SparseRead> SparseRead for TarReader<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        let mut want = max;
        if let Some(cursor) = &mut self.content.sparse {
            match cursor.place() {
                Place::Hole(len) => {
                    cursor.advance(len.min(max));
                    return Ok(len.min(max));
                }
                Place::Data(len) => want = want.min(len),
            }
        }
        let n = self.input.zeros(want.min(self.content.stored))?;
        self.content.took(n);
        Ok(n)
    }
}

/// The content of the current file, holes filled. Ends early only with an error.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut want = buf.len() as u64;
        if let Some(cursor) = &mut self.content.sparse {
            match cursor.place() {
                Place::Data(len) => want = want.min(len),
                Place::Hole(len) => {
                    let n = want.min(len) as usize;
                    buf[..n].fill(0);
                    cursor.advance(n as u64);
                    return Ok(n);
                }
            }
        }
        let want = want.min(self.content.stored) as usize;
        if want == 0 {
            return Ok(0);
        }
        let n = self.input.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content.took(n as u64);
        Ok(n)
    }
}
