//! Decompression and digest in threads of their own, ahead of the reader.
//!
//! **Order.** A stream of one chunk needs no thread. A longer one has a thread that decompresses and one that digests. Queues
//! are bounded, so memory does not grow with the stream. Known zeros are passed on as a number (N-5).

use std::io::{self, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::base::digest::{Hasher, Sha256};
use crate::base::sparse::{MOST, SparseRead, drain};

const CHUNK: usize = 512 << 10;
const QUEUE: usize = 6;

/// A piece of the stream.
#[derive(Clone)]
enum Piece {
    /// Shorter than [`CHUNK`]: the stream is over.
    Chunk(Arc<Vec<u8>>),
    Zeros(u64),
}

/// Gives `from` to `body` as a reader. Returns the result of `body`, and digest and length of the whole stream, including what
/// `body` did not read.
pub(super) fn digested<T, E: From<io::Error>>(
    mut from: impl SparseRead + Send,
    body: impl FnOnce(&mut dyn SparseRead) -> Result<T, E>,
) -> Result<(T, Sha256, u64), E> {
    let first = chunk(&mut from)?;
    if first.len() < CHUNK {
        let made = body(&mut &first[..])?;
        return Ok((made, Sha256::of(&first), first.len() as u64));
    }
    std::thread::scope(|scope| {
        let (to_body, pieces) = bounded::<io::Result<Piece>>(QUEUE);
        let (to_hash, hash_queue) = bounded::<Piece>(QUEUE);
        scope.spawn(move || {
            let mut next = Ok(Piece::Chunk(Arc::new(first)));
            loop {
                let ended = match &next {
                    Ok(Piece::Chunk(chunk)) => chunk.len() < CHUNK,
                    Ok(Piece::Zeros(_)) => false,
                    Err(_) => true,
                };
                if let Ok(piece) = &next {
                    // An error here means that the digest is not needed any more.
                    let _ = to_hash.send(piece.clone());
                }
                // An error here means that the reader has ended.
                if to_body.send(next).is_err() || ended {
                    return;
                }
                next = piece(&mut from);
            }
        });
        let hasher = scope.spawn(move || {
            let (mut hasher, mut length) = (Hasher::new(), 0);
            for piece in hash_queue {
                match piece {
                    Piece::Chunk(chunk) => {
                        hasher.update(&chunk);
                        length += chunk.len() as u64;
                    }
                    Piece::Zeros(count) => {
                        hasher.zeros(count);
                        length += count;
                    }
                }
            }
            (hasher.finish(), length)
        });
        let mut reader = Pieces { queue: pieces, chunk: Arc::default(), at: 0, zeros: 0 };
        let made = body(&mut reader)?;
        drain::<io::Error>(&mut reader, &mut vec![0; 64 << 10], |_| Ok(()))?;
        drop(reader);
        let (digest, length) = hasher.join().map_err(|_| io::Error::other("the digest thread ended early"))?;
        Ok((made, digest, length))
    })
}

fn piece(from: &mut impl SparseRead) -> io::Result<Piece> {
    Ok(match from.zeros(MOST)? {
        0 => Piece::Chunk(Arc::new(chunk(from)?)),
        zeros => Piece::Zeros(zeros),
    })
}

fn chunk(from: &mut impl SparseRead) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    from.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

struct Pieces {
    queue: Receiver<io::Result<Piece>>,
    chunk: Arc<Vec<u8>>,
    at: usize,
    zeros: u64,
}

impl Pieces {
    /// Ok: there is something to give out, unless the stream is over.
    fn next(&mut self) -> io::Result<()> {
        if self.zeros == 0 && self.at == self.chunk.len() {
            match self.queue.recv() {
                Ok(Ok(Piece::Chunk(chunk))) => (self.chunk, self.at) = (chunk, 0),
                Ok(Ok(Piece::Zeros(count))) => self.zeros = count,
                Ok(Err(error)) => return Err(error),
                // The stream is over.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

impl SparseRead for Pieces {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        self.next()?;
        let n = self.zeros.min(max);
        self.zeros -= n;
        Ok(n)
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let zeros = self.zeros(buf.len() as u64)? as usize;
        if zeros > 0 {
            buf[..zeros].fill(0);
            return Ok(zeros);
        }
        let n = buf.len().min(self.chunk.len() - self.at);
        buf[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_covers_unread_bytes() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            let data: Vec<u8> = (0..len).map(|i| (i / 5) as u8).collect();
            let read = |want: usize| {
                digested::<_, io::Error>(&data[..], |reader| {
                    let mut got = Vec::new();
                    reader.take(want as u64).read_to_end(&mut got)?;
                    Ok(got)
                })
                .unwrap()
            };
            for want in [0, 10, len] {
                let (got, digest, length) = read(want);
                assert!(got == data[..want.min(len)]);
                assert_eq!((digest, length), (Sha256::of(&data), len as u64));
            }
        }
    }

    #[test]
    fn errors_of_reader_and_body_are_returned() {
        let data = vec![1; 20 * CHUNK];
        let given_up = digested::<(), _>(&data[..], |_| Err(io::Error::other("enough")));
        assert_eq!(given_up.unwrap_err().to_string(), "enough");
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("torn"))?;
                Ok(buf.len())
            }
        }
        let torn =
            digested::<_, io::Error>(crate::base::sparse::Dense(Breaks(9)), |reader| io::copy(reader, &mut io::sink()));
        assert_eq!(torn.unwrap_err().to_string(), "torn");
    }
}
