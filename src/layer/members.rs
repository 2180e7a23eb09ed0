//! Streams of several gzip members or zstd frames.
//!
//! **Holds.** flate2's own reader of several members rejects what may follow them (S-40). Members of zeros are usually equal,
//! since each holds the same number: the first is decompressed, the others are recognised by their bytes (N-5).

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::base::sparse::{SparseRead, is_zero};

/// The size of the buffer of compressed bytes.
const WINDOW: usize = 128 << 10;
/// Longer members are not remembered: many zeros compress to few bytes.
const TAPE: usize = 16 << 10;
/// Shorter runs of zeros are not worth being remembered.
const WORTHWHILE: u64 = 64 << 10;

/// A buffer with look-ahead that can record the bytes that are read.
pub(super) struct Window<R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// The bytes read since [`Window::remember`]; `None` if it was not called, or they are too many.
    tape: Option<Vec<u8>>,
}

impl<R: Read> Window<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; WINDOW], at: 0, end: 0, tape: None }
    }

    /// The next `count` bytes, or fewer at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let count = count.min(WINDOW);
        if self.end - self.at < count {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
            while self.end < count {
                match self.inner.read(&mut self.buffer[self.end..]) {
                    Ok(0) => break,
                    Ok(n) => self.end += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(&self.buffer[self.at..self.end.min(self.at + count)])
    }

    fn remember(&mut self) {
        self.tape = Some(Vec::new());
    }
}

impl<R: Read> BufRead for Window<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end {
            self.peek(1)?;
        }
        Ok(&self.buffer[self.at..self.end])
    }

    fn consume(&mut self, count: usize) {
        let taken = &self.buffer[self.at..self.at + count];
        if let Some(tape) = self.tape.as_mut().filter(|tape| tape.len() + count <= TAPE) {
            tape.extend_from_slice(taken);
        } else {
            self.tape = None;
        }
        self.at += count;
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end && buf.len() >= WINDOW && self.tape.is_none() {
            return self.inner.read(buf);
        }
        let next = self.fill_buf()?;
        let n = next.len().min(buf.len());
        buf[..n].copy_from_slice(&next[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: SparseRead> SparseRead for Window<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        if self.at == self.end && self.tape.is_none() { self.inner.zeros(max) } else { Ok(0) }
    }
}

/// All members of a stream, decompressed.
pub(super) struct Members<R> {
    state: State<R>,
    /// `None`: they are gzip's.
    zstd: Option<Box<Decoder<'static>>>,
    first: bool,
    /// The number of bytes of the current member so far, if all were zeros.
    zeros: Option<u64>,
    known: Option<Known>,
    /// Zeros of recognised members that were not read yet.
    pending: u64,
}

/// A member of zeros.
struct Known {
    packed: Vec<u8>,
    zeros: u64,
}

enum State<R> {
    Between(Window<R>),
    Gzip(Box<GzDecoder<Window<R>>>),
    Zstd(Window<R>),
    Over,
}

impl<R: Read> Members<R> {
    /// gzip members.
    pub(super) fn gzip(from: Window<R>) -> Self {
        Self { state: State::Between(from), zstd: None, first: true, zeros: None, known: None, pending: 0 }
    }

    /// zstd frames with windows of up to 2 to the `window_log`th bytes.
    pub(super) fn zstd(from: Window<R>, window_log: u32) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(window_log))?;
        Ok(Self { zstd: Some(Box::new(decoder)), ..Self::gzip(from) })
    }

    /// Skips the next member if it equals the known one. Only between members.
    fn repeats(&mut self) -> io::Result<bool> {
        let (State::Between(from), Some(known)) = (&mut self.state, &self.known) else { return Ok(false) };
        if from.peek(known.packed.len())? != known.packed {
            return Ok(false);
        }
        from.consume(known.packed.len());
        self.pending += known.zeros;
        Ok(true)
    }

    fn begin(&mut self, mut from: Window<R>) -> io::Result<State<R>> {
        let next = from.peek(1)?.first().copied();
        let begun = match (&mut self.zstd, next) {
            (Some(_), None) => return Ok(State::Over),
            (None, next) if !self.first && next != Some(0x1f) => {
                io::copy(&mut from, &mut io::sink())?;
                return Ok(State::Over);
            }
            (zstd, _) => {
                from.remember();
                match zstd {
                    Some(decoder) => decoder.reinit().map(|()| State::Zstd(from))?,
                    None => State::Gzip(Box::new(GzDecoder::new(from))),
                }
            }
        };
        (self.first, self.zeros) = (false, Some(0));
        Ok(begun)
    }

    /// Ends a member and remembers it if it was all zeros.
    fn end(&mut self, mut from: Window<R>) -> State<R> {
        let packed = from.tape.take();
        if let (Some(packed), Some(zeros)) = (packed, self.zeros.take().filter(|&zeros| zeros >= WORTHWHILE)) {
            self.known = Some(Known { packed, zeros });
        }
        State::Between(from)
    }

    fn gave(&mut self, bytes: &[u8]) -> usize {
        self.zeros = self.zeros.filter(|_| is_zero(bytes)).map(|zeros| zeros + bytes.len() as u64);
        bytes.len()
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.pending > 0 || self.repeats()? {
                let n = usize::try_from(self.pending).unwrap_or(usize::MAX).min(buf.len());
                buf[..n].fill(0);
                self.pending -= n as u64;
                return Ok(n);
            }
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Ok(0),
                State::Between(from) => self.state = self.begin(from)?,
                State::Gzip(mut decoder) => match decoder.read(buf)? {
                    0 => self.state = self.end(decoder.into_inner()),
                    n => {
                        self.state = State::Gzip(decoder);
                        return Ok(self.gave(&buf[..n]));
                    }
                },
                State::Zstd(mut from) => {
                    let Some(decoder) = &mut self.zstd else { return Ok(0) };
                    let (n, over) = frame(decoder, &mut from, buf)?;
                    let n = self.gave(&buf[..n]);
                    self.state = if over { self.end(from) } else { State::Zstd(from) };
                    if n > 0 {
                        return Ok(n);
                    }
                }
            }
        }
    }
}

impl<R: Read> SparseRead for Members<R> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        while self.pending < max && self.repeats()? {}
        let n = self.pending.min(max);
        self.pending -= n;
        Ok(n)
    }
}

/// Reads the next bytes of a frame, at least one unless it is over. Returns their number, and whether it is over.
fn frame<R: Read>(decoder: &mut Decoder<'_>, from: &mut Window<R>, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    loop {
        let input = from.fill_buf()?;
        let ended = input.is_empty();
        let status = decoder.run_on_buffers(input, buf)?;
        from.consume(status.bytes_read);
        let over = status.remaining == 0;
        if status.bytes_written > 0 || over {
            return Ok((status.bytes_written, over));
        }
        if ended {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::base::sparse::{Run, drain};
    use crate::layer::compress::{Codec, Compression};

    /// What comes out, and how much of it was known to be zeros.
    fn taken(members: &mut Members<Cursor<Vec<u8>>>) -> io::Result<(Vec<u8>, u64)> {
        let (mut out, mut known) = (Vec::new(), 0);
        drain::<io::Error>(members, &mut vec![0; 100_000], |run| {
            match run {
                Run::Bytes(bytes) => out.extend_from_slice(bytes),
                Run::Zeros(n) => {
                    known += n;
                    out.resize(out.len() + n as usize, 0);
                }
            }
            Ok(())
        })?;
        Ok((out, known))
    }

    #[test]
    fn equal_members_of_zeros_are_decompressed_once() {
        for compression in
            [Compression::Gzip { level: 4 }, Compression::Gzip { level: 9 }, Compression::Zstd { level: 3 }]
        {
            let mut codec = Codec::new(compression).unwrap();
            let (zeros, mut data) = (vec![0; 1 << 20], vec![0; 1 << 20]);
            data[1 << 19] = 1;
            let (mut packed, mut plain) = (Vec::new(), Vec::new());
            for segment in [&data, &zeros, &zeros, &zeros, &data, &zeros, &zeros, &data, &data] {
                packed.extend_from_slice(&codec.run(segment, None, Vec::new()).unwrap().bytes);
                plain.extend_from_slice(segment);
            }
            let begin = |packed: &'_ [u8]| -> Members<Cursor<Vec<u8>>> {
                let packed = Window::new(Cursor::new(packed.to_vec()));
                match compression {
                    Compression::Zstd { .. } => Members::zstd(packed, 27).unwrap(),
                    _ => Members::gzip(packed),
                }
            };
            let (out, known) = taken(&mut begin(&packed)).unwrap();
            assert!(out == plain);
            // Up to half of the four repeated members fills a read that was begun before.
            assert!(known > 7 << 19, "{known}");
            for cut in [packed.len() - 1, packed.len() / 2, 3] {
                assert!(taken(&mut begin(&packed[..cut])).is_err(), "{compression:?} cut at {cut}");
            }
        }
    }
}
