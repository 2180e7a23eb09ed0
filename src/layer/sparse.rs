//! Sparse files in tar: GNU's old format and PAX 0.0, 0.1, 1.0 (S-41).

use super::pax::{Records, decimal};

/// The parts of a file that are in the archive, in order, and the file's true length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SparseMap {
    pub(super) parts: Vec<(u64, u64)>,
    pub(super) size: u64,
}

impl SparseMap {
    /// Parts must be in order, apart, inside the file and add up to what the archive holds.
    pub(super) fn new(parts: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self, &'static str> {
        let (mut end, mut sum) = (0u64, 0u64);
        for &(offset, len) in &parts {
            if offset < end {
                return Err("sparse map out of order");
            }
            end = offset.checked_add(len).filter(|e| *e <= size).ok_or("sparse map reaches beyond the file")?;
            sum += len;
        }
        if sum != stored {
            return Err("sparse map does not match the stored size");
        }
        let parts = parts.into_iter().filter(|p| p.1 > 0).collect();
        Ok(Self { parts, size })
    }
}

/// A position in a sparse file.
pub(super) struct SparseCursor {
    map: SparseMap,
    /// The part that the position is in or before.
    part: usize,
    at: u64,
}

/// What is at a position of a sparse file, and for how many bytes.
pub(super) enum Place {
    Data(u64),
    Hole(u64),
}

impl SparseCursor {
    /// The beginning of the file.
    pub(super) fn new(map: SparseMap) -> Self {
        Self { map, part: 0, at: 0 }
    }

    pub(super) fn place(&self) -> Place {
        match self.map.parts.get(self.part) {
            Some(&(offset, len)) if offset <= self.at => Place::Data(offset + len - self.at),
            // Up to the next part, or to the end.
            next => Place::Hole(next.map_or(self.map.size, |part| part.0) - self.at),
        }
    }

    /// Moves on by `count` bytes, at most to the end of the hole or part.
    pub(super) fn advance(&mut self, count: u64) {
        self.at += count;
        if self.map.parts.get(self.part).is_some_and(|part| part.0 + part.1 == self.at) {
            self.part += 1;
        }
    }
}

/// What PAX records say about a sparse file.
pub(super) enum PaxSparse {
    /// Not sparse.
    No,
    /// Formats 0.0 and 0.1: the map and the size.
    Map(Vec<(u64, u64)>, u64),
    /// Format 1.0: the map stands before the content; this is the size.
    InContent(u64),
}

pub(super) fn of_records(records: &Records) -> Result<PaxSparse, &'static str> {
    let number = |key: &str| records.get(key.as_bytes()).map(|v| decimal(v).ok_or("sparse size"));
    let version = |key: &str| records.get(key.as_bytes()).map(Vec::as_slice);
    let size = match (number("GNU.sparse.realsize"), number("GNU.sparse.size")) {
        (Some(size), _) | (None, Some(size)) => Some(size?),
        _ => None,
    };
    match (version("GNU.sparse.major"), version("GNU.sparse.minor")) {
        (Some(b"1"), Some(b"0")) => Ok(PaxSparse::InContent(size.ok_or("sparse file without a size")?)),
        (None, None) | (Some(b"0"), Some(b"0" | b"1")) => match records.get(&b"GNU.sparse.map"[..]) {
            None if size.is_none() => Ok(PaxSparse::No),
            None => Err("sparse file without a map"),
            Some(map) => {
                let numbers: Option<Vec<u64>> = map.split(|&b| b == b',').map(decimal).collect();
                let numbers = numbers.filter(|n| n.len() % 2 == 0).ok_or("sparse map")?;
                let parts = numbers.chunks_exact(2).map(|p| (p[0], p[1])).collect();
                Ok(PaxSparse::Map(parts, size.ok_or("sparse file without a size")?))
            }
        },
        _ => Err("sparse format of an unknown version"),
    }
}

/// Reads the map that format 1.0 puts before the content: decimal lines, count first, padded to a block.
/// `next_block` hands out the stored bytes block by block.
pub(super) fn in_content<E>(
    mut next_block: impl FnMut() -> Result<[u8; 512], E>,
    max: u64,
    bad: impl Fn(&'static str) -> E,
) -> Result<Vec<(u64, u64)>, E> {
    let mut block = next_block()?;
    let mut at = 0;
    let mut read = 512;
    let mut number = || -> Result<u64, E> {
        let mut text = Vec::new();
        loop {
            if at == 512 {
                read += 512;
                if read > max {
                    return Err(bad("sparse map too long"));
                }
                block = next_block()?;
                at = 0;
            }
            let byte = block[at];
            at += 1;
            if byte == b'\n' {
                return decimal(&text).ok_or_else(|| bad("sparse map"));
            }
            text.push(byte);
            if text.len() > 20 {
                return Err(bad("sparse map"));
            }
        }
    };
    let count = number()?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push((number()?, number()?));
    }
    Ok(parts)
}
