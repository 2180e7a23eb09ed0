//! The stat index: contents that earlier builds read, so that unchanged files are not read again.
//!
//! **On disk.** One file per context, all numbers little-endian: magic, count, then per path, in order of bytes:
//! length-framed path, stamp (size, mtime, ctime, device, inode), flags, SHA-256 if it is a file, link text, extended
//! attributes; last the SHA-256 of everything before. A damaged file counts as empty: the index only saves work.
//! **Holds.** An entry is used if every part of the stamp is equal; a change of owner, mode or attributes changes the ctime.
//! An entry whose times were too recent when it was read is not stored: a later write could leave the same stamp (git calls
//! that racy).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use super::error::Error;
use super::file::{Content, Meta};
use crate::base::damage::Checked;
use crate::base::digest::Sha256;
use crate::base::fs;
use crate::base::publish;
use crate::base::time::Timestamp;

const MAGIC: &[u8; 16] = b"kiln-statindex1\n";
/// Coarser than any kernel tick.
const TICK: i64 = 50_000_000;
/// For file systems that keep whole or even seconds only.
const COARSE: i64 = 2_500_000_000;
const HAS_DIGEST: u8 = 1;

/// The metadata that changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    device: u64,
    inode: u64,
}

impl Stamp {
    fn of(meta: &Meta) -> Self {
        let (device, inode) = meta.inode.map_or((0, 0), |i| (i.device, i.number));
        Self { size: meta.size, mtime: meta.mtime, ctime: meta.ctime, device, inode }
    }

    /// Whether every change from `now` on gives another stamp.
    fn is_settled(&self, now: Timestamp) -> bool {
        let slack = if self.mtime.nanos == 0 && self.ctime.nanos == 0 { COARSE } else { TICK };
        let at = |t: Timestamp| i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos);
        at(self.ctime).max(at(self.mtime)) + i128::from(slack) < at(now)
    }
}

/// The position of an entry in the file.
struct Slot {
    path: std::ops::Range<usize>,
    rest: usize,
}

struct Fresh {
    stamp: Stamp,
    content: Content,
    settled: bool,
}

/// The stat index of one context.
#[derive(Default)]
pub(super) struct StatIndex {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    fresh: Mutex<BTreeMap<Vec<u8>, Fresh>>,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(part)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn framed(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp { secs: self.u64()? as i64, nanos: self.u32()? })
    }

    fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            size: self.u64()?,
            mtime: self.time()?,
            ctime: self.time()?,
            device: self.u64()?,
            inode: self.u64()?,
        })
    }

    fn content(&mut self) -> Option<Content> {
        let flags = self.take(1)?[0];
        let digest = match flags & HAS_DIGEST {
            0 => None,
            _ => Some(Sha256(self.take(32)?.try_into().ok()?)),
        };
        let link = self.framed()?.to_vec();
        let mut content = Content { digest, link, ..Content::default() };
        for _ in 0..self.u32()? {
            let name = self.framed()?.to_vec();
            content.xattrs.insert(name, self.framed()?.to_vec());
        }
        Some(content)
    }
}

fn frame(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

fn write_entry(out: &mut Vec<u8>, path: &[u8], stamp: &Stamp, content: &Content) {
    frame(out, path);
    out.extend_from_slice(&stamp.size.to_le_bytes());
    for time in [stamp.mtime, stamp.ctime] {
        out.extend_from_slice(&time.secs.to_le_bytes());
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    out.extend_from_slice(&stamp.device.to_le_bytes());
    out.extend_from_slice(&stamp.inode.to_le_bytes());
    out.push(if content.digest.is_some() { HAS_DIGEST } else { 0 });
    if let Some(digest) = content.digest {
        out.extend_from_slice(&digest.0);
    }
    frame(out, &content.link);
    out.extend_from_slice(&(content.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &content.xattrs {
        frame(out, name);
        frame(out, value);
    }
}

impl StatIndex {
    /// Reads the index at `path`; a missing or damaged file gives an empty index.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read_spare(path).unwrap_or_default();
        let slots = slots(&bytes).unwrap_or_default();
        Ok(Self { bytes, slots, fresh: Mutex::default() })
    }

    fn lookup(&self, path: &[u8]) -> Option<(Stamp, Cursor<'_>)> {
        let at = self.slots.binary_search_by(|slot| self.bytes[slot.path.clone()].cmp(path)).ok()?;
        let mut cursor = Cursor { bytes: &self.bytes, at: self.slots[at].rest };
        let stamp = cursor.stamp()?;
        Some((stamp, cursor))
    }

    /// The content of `path`, if it was read with the same metadata.
    pub(super) fn known(&self, path: &[u8], meta: &Meta) -> Option<Content> {
        let stamp = Stamp::of(meta);
        if let Some((was, mut rest)) = self.lookup(path)
            && was == stamp
        {
            return rest.content();
        }
        let fresh = self.fresh.lock().ok()?;
        fresh.get(path).filter(|f| f.stamp == stamp).map(|f| f.content.clone())
    }

    /// Stores the content of `path`; reading began at `began`.
    pub(super) fn learn(&self, path: &[u8], meta: &Meta, content: &Content, began: Timestamp) {
        let stamp = Stamp::of(meta);
        let settled = stamp.is_settled(began);
        if let Ok(mut fresh) = self.fresh.lock() {
            fresh.insert(path.to_vec(), Fresh { stamp, content: content.clone(), settled });
        }
    }

    /// The digest to check when `path` is read again, if its stamp may miss a change.
    pub(super) fn doubtful(&self, path: &[u8]) -> Option<Sha256> {
        let fresh = self.fresh.lock().ok()?;
        fresh.get(path).filter(|f| !f.settled).and_then(|f| f.content.digest)
    }

    /// Ok: the file at `path` holds the old and the new entries. Without new ones it is not written.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let Ok(fresh) = self.fresh.lock() else { return Ok(()) };
        if !fresh.values().any(|f| f.settled) {
            return Ok(());
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 8]);
        let mut count = 0u64;
        let mut new = fresh.iter().filter(|(_, f)| f.settled).peekable();
        for slot in &self.slots {
            let old = &self.bytes[slot.path.clone()];
            while let Some((path, f)) = new.next_if(|(path, _)| path.as_slice() < old) {
                write_entry(&mut out, path, &f.stamp, &f.content);
                count += 1;
            }
            if fresh.contains_key(old) {
                continue;
            }
            let mut cursor = Cursor { bytes: &self.bytes, at: slot.rest };
            if cursor.stamp().is_some() && cursor.content().is_some() {
                out.extend_from_slice(&self.bytes[slot.path.start - 4..cursor.at]);
                count += 1;
            }
        }
        for (path, f) in new {
            write_entry(&mut out, path, &f.stamp, &f.content);
            count += 1;
        }
        out[16..24].copy_from_slice(&count.to_le_bytes());
        let sum = Sha256::of(&out);
        out.write_all(&sum.0).map_err(|e| fs::FsError::new("write", path, e))?;
        publish::atomic_over(path, &out, 0o600)?;
        Ok(())
    }
}

/// Reads the index at `path`.
pub(crate) fn check(path: &Path) -> Checked {
    let damaged = |bytes: Vec<u8>| slots(&bytes).is_none().then(|| "its digest does not match".to_owned());
    Checked::draft(path).unwrap_or_else(|| Checked::read(path, damaged))
}

/// The positions of all entries; `None` if the bytes are not an index.
fn slots(bytes: &[u8]) -> Option<Vec<Slot>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if !body.starts_with(MAGIC) || Sha256::of(body).0 != sum {
        return None;
    }
    let mut cursor = Cursor { bytes: body, at: MAGIC.len() };
    let count = cursor.u64()? as usize;
    let mut slots: Vec<Slot> = Vec::with_capacity(count.min(1 << 20));
    for _ in 0..count {
        let len = cursor.u32()? as usize;
        let path = cursor.at..cursor.at.checked_add(len)?;
        cursor.take(len)?;
        let rest = cursor.at;
        cursor.stamp()?;
        cursor.skip_content()?;
        slots.push(Slot { path, rest });
    }
    let sorted = slots.windows(2).all(|w| body[w[0].path.clone()] < body[w[1].path.clone()]);
    (cursor.at == body.len() && sorted).then_some(slots)
}

impl Cursor<'_> {
    /// Skips a content without building it: every build loads the index.
    fn skip_content(&mut self) -> Option<()> {
        let flags = self.take(1)?[0];
        self.take(if flags & HAS_DIGEST == 0 { 0 } else { 32 })?;
        self.framed()?;
        for _ in 0..self.u32()? {
            self.framed()?;
            self.framed()?;
        }
        Some(())
    }
}
