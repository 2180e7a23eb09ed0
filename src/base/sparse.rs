//! Sparse files: long runs of zeros are neither read nor stored.
//!
//! **Holds.** A [`SparseRead`] reports zeros that it need not read; [`SparseFile`] finds the holes of a file;
//! [`SparseWriter`] leaves holes in place of zeros. A hole and written zeros give the same bytes everywhere. On a file system
//! without holes everything is data: slower, with the same result.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Zeros to hash and to write; they fit in the cache of a core.
pub(crate) static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Shorter files are not searched for holes.
const WORTHWHILE: u64 = 64 << 10;

/// The smallest hole of usual file systems.
const BLOCK: usize = 4096;

/// A reader that may know that zeros come next.
pub trait SparseRead: Read {
    /// Skips up to `max` bytes that are known to be zero. Ok: the number of bytes skipped; 0 says nothing about the next
    /// byte.
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        let _ = max;
        Ok(0)
    }
}

impl SparseRead for &[u8] {}
impl SparseRead for io::Empty {}
impl SparseRead for io::Stdin {}
impl<T: AsRef<[u8]>> SparseRead for Cursor<T> {}

impl<R: SparseRead + ?Sized> SparseRead for &mut R {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        (**self).zeros(max)
    }
}

impl<R: SparseRead + ?Sized> SparseRead for Box<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        (**self).zeros(max)
    }
}

/// A reader that knows of no zeros.
#[derive(Debug)]
pub(crate) struct Dense<R>(pub R);

impl<R: Read> Read for Dense<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> SparseRead for Dense<R> {}

/// Whether all `bytes` are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Compares the bytes with themselves, shifted by one: as fast as memory.
    bytes.split_first().is_none_or(|(first, rest)| *first == 0 && *rest == bytes[..rest.len()])
}

/// Fills `buf`. Ok: the number of bytes; less than `buf` holds if the stream ended.
pub(crate) fn read_full(from: &mut (impl SparseRead + ?Sized), buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        let room = buf.len() - got;
        let zeros = from.zeros(room as u64)? as usize;
        if zeros > 0 {
            buf[got..got + zeros].fill(0);
            got += zeros;
            continue;
        }
        match from.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Reads `from` to its end and hands every piece to `take`.
pub(crate) fn drain<E: From<io::Error>>(
    from: &mut (impl SparseRead + ?Sized),
    buffer: &mut [u8],
    mut take: impl FnMut(Run<'_>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let zeros = from.zeros(MOST)?;
        if zeros > 0 {
            take(Run::Zeros(zeros))?;
            continue;
        }
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(Run::Bytes(&buffer[..n]))?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The longest run of zeros that is passed on at once. Hashing it takes about 15 ms, after which work can be cancelled.
pub(crate) const MOST: u64 = 16 << 20;

/// A piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run<'a> {
    /// Bytes that were read.
    Bytes(&'a [u8]),
    /// A number of zeros.
    Zeros(u64),
}

/// A reader of a file, or of a part of one, that does not read holes. It has its own position and changes that of the file.
#[derive(Debug)]
pub(crate) struct SparseFile<F> {
    file: F,
    at: u64,
    end: u64,
    /// The end of the hole at `at`.
    hole: u64,
    /// The end of the data at `at`.
    data: u64,
}

impl<F: AsFd> SparseFile<F> {
    /// All of `file`, whose size is about `size` bytes: short files are not searched for holes.
    pub(crate) fn new(file: F, size: u64) -> Self {
        let data = if size < WORTHWHILE { u64::MAX } else { 0 };
        Self { file, at: 0, end: u64::MAX, hole: 0, data }
    }

    /// The `len` bytes of `file` from `at` on.
    pub(crate) fn part(file: F, at: u64, len: u64) -> Self {
        let data = if len < WORTHWHILE { u64::MAX } else { 0 };
        Self { file, at, end: at.saturating_add(len), hole: 0, data }
    }

    /// The file.
    pub(crate) fn inner(&self) -> &F {
        &self.file
    }

    /// Finds out whether `at` is in a hole or in data, unless that is known.
    fn look(&mut self) {
        if self.at < self.hole || self.at < self.data {
            return;
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(data) if data > self.at => self.hole = data,
            Ok(_) => self.data = rustix::fs::seek(&self.file, SeekFrom::Hole(self.at)).unwrap_or(u64::MAX),
            // A hole up to the end, or the end itself.
            Err(Errno::NXIO) => match rustix::fs::fstat(&self.file) {
                Ok(stat) if stat.st_size as u64 > self.at => self.hole = stat.st_size as u64,
                _ => self.data = u64::MAX,
            },
            // The file system does not support holes.
            Err(_) => self.data = u64::MAX,
        }
    }
}

impl<F: AsFd> Read for SparseFile<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let zeros = self.zeros(buf.len() as u64)? as usize;
        if zeros > 0 {
            buf[..zeros].fill(0);
            return Ok(zeros);
        }
        let until = self.data.max(self.at + 1).min(self.end);
        let room = usize::try_from(until.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buf.len());
        let n = rustix::io::pread(&self.file, &mut buf[..room], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<F: AsFd> SparseRead for SparseFile<F> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        self.look();
        let n = self.hole.min(self.end).saturating_sub(self.at).min(max);
        self.at += n;
        Ok(n)
    }
}

/// Writes an empty file and leaves holes in place of zeros.
#[derive(Debug)]
pub(crate) struct SparseWriter<F> {
    file: F,
    at: u64,
    /// The length of the file so far.
    len: u64,
}

impl<F: AsFd> SparseWriter<F> {
    /// A writer of `file`, which is empty.
    pub(crate) fn new(file: F) -> Self {
        Self { file, at: 0, len: 0 }
    }

    /// The file. Its length is right only after [`SparseWriter::set_len`].
    pub(crate) fn inner(&self) -> &F {
        &self.file
    }

    /// Leaves a hole.
    pub(crate) fn zeros(&mut self, count: u64) {
        self.at += count;
    }

    /// Ok: the file has its full length.
    pub(crate) fn set_len(&mut self) -> io::Result<()> {
        if self.len < self.at {
            rustix::fs::ftruncate(&self.file, self.at)?;
            self.len = self.at;
        }
        Ok(())
    }

    /// [`SparseWriter::set_len`] that returns the file.
    pub(crate) fn finish(mut self) -> io::Result<F> {
        self.set_len()?;
        Ok(self.file)
    }

    fn put(&mut self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    at += n as u64;
                    self.len = self.len.max(at);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl<F: AsFd> Write for SparseWriter<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (mut start, mut at) = (0, 0);
        while at < buf.len() {
            let block = BLOCK - (self.at as usize + at) % BLOCK;
            let next = buf.len().min(at + block);
            if is_zero(&buf[at..next]) {
                self.put(&buf[start..at], self.at + start as u64)?;
                start = next;
            }
            at = next;
        }
        self.put(&buf[start..], self.at + start as u64)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies `from`, whose size is about `size` bytes, into the empty file `to`, in the kernel and with its holes. Ok: the
/// length of `to`.
pub(crate) fn copy(from: &File, to: &File, size: u64) -> io::Result<u64> {
    let mut source = SparseFile::new(from, size);
    let mut target = SparseWriter::new(to);
    loop {
        source.look();
        let hole = source.hole.saturating_sub(source.at);
        if hole > 0 {
            source.at += hole;
            target.zeros(hole);
            continue;
        }
        let (at, len) = (source.at, source.data.saturating_sub(source.at));
        if size >= WORTHWHILE {
            // The search for holes moved the position.
            rustix::fs::seek(from, SeekFrom::Start(at))?;
            rustix::fs::seek(to, SeekFrom::Start(at))?;
        }
        let copied = io::copy(&mut (&mut &*from).take(len), &mut &*to)?;
        source.at += copied;
        if copied > 0 {
            (target.at, target.len) = (source.at, source.at);
        }
        if copied < len {
            target.set_len()?;
            return Ok(source.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use proptest::prelude::*;

    use super::*;

    /// Pieces of data, written zeros and holes, by their lengths in 512 bytes.
    fn pieces() -> impl Strategy<Value = Vec<(u8, usize)>> {
        proptest::collection::vec((0..3u8, 1..300usize), 0..12)
    }

    fn make(pieces: &[(u8, usize)]) -> (File, Vec<u8>) {
        let (file, mut plain) = (tempfile::tempfile().unwrap(), Vec::new());
        for &(kind, len) in pieces {
            let bytes = vec![if kind == 0 { 7 } else { 0 }; len * 512];
            if kind < 2 {
                file.write_all_at(&bytes, plain.len() as u64).unwrap();
            }
            plain.extend_from_slice(&bytes);
        }
        file.set_len(plain.len() as u64).unwrap();
        (file, plain)
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Where data and holes are, as the kernel says.
    fn map(file: &File) -> Vec<(u64, u64)> {
        let (mut at, mut map) = (0, Vec::new());
        while let Ok(data) = rustix::fs::seek(file, SeekFrom::Data(at)) {
            at = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap();
            map.push((data, at));
        }
        map
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn holes_read_as_zeros_and_are_copied_as_holes(pieces in pieces(), step in 1..70_000usize) {
            let (file, plain) = make(&pieces);
            let size = plain.len() as u64;
            let (mut read, mut buffer) = (Vec::new(), vec![0; step]);
            drain::<io::Error>(&mut SparseFile::new(&file, size), &mut buffer, |run| {
                match run {
                    Run::Bytes(bytes) => read.extend_from_slice(bytes),
                    Run::Zeros(n) => read.resize(read.len() + n as usize, 0),
                }
                Ok(())
            }).unwrap();
            prop_assert!(read == plain);
            let mut whole = vec![1; plain.len() + 5];
            prop_assert_eq!(read_full(&mut SparseFile::new(&file, size), &mut whole).unwrap(), plain.len());
            prop_assert!(whole[..plain.len()] == plain[..]);
            let (from, len) = (size / 3, size / 2);
            let mut part = Vec::new();
            SparseFile::part(&file, from, len).read_to_end(&mut part).unwrap();
            prop_assert!(part == plain[from as usize..(from + len) as usize]);
            let to = tempfile::tempfile().unwrap();
            rustix::fs::seek(&file, SeekFrom::Start(0)).unwrap();
            prop_assert_eq!(copy(&file, &to, size).unwrap(), size);
            prop_assert!(content(&to) == plain);
            if size >= WORTHWHILE {
                prop_assert_eq!(map(&to), map(&file));
            }
        }

        #[test]
        fn zeros_are_written_as_holes(pieces in pieces(), step in 1..70_000usize) {
            let (_, plain) = make(&pieces);
            let mut whole = SparseWriter::new(tempfile::tempfile().unwrap());
            whole.write_all(&plain).unwrap();
            let mut sliced = SparseWriter::new(tempfile::tempfile().unwrap());
            for slice in plain.chunks(step) {
                if is_zero(slice) { sliced.zeros(slice.len() as u64) } else { sliced.write_all(slice).unwrap() }
            }
            let (whole, sliced) = (whole.finish().unwrap(), sliced.finish().unwrap());
            prop_assert!(content(&whole) == plain && content(&sliced) == plain);
            let data = plain.chunks(BLOCK).filter(|block| !is_zero(block)).count() as u64;
            prop_assert!(whole.metadata().unwrap().blocks() * 512 <= data * BLOCK as u64);
        }
    }

    #[test]
    fn is_zero_sees_every_byte() {
        for len in 0..70 {
            assert!(is_zero(&vec![0; len]));
            for at in 0..len {
                let mut bytes = vec![0; len];
                bytes[at] = 1;
                assert!(!is_zero(&bytes));
            }
        }
    }
}
