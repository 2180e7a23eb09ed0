//! Decompressing and digesting ahead of whoever reads the stream.
//!
//! **Order.** A stream that fits in one chunk costs no thread. A longer one has a thread that decompresses and one
//! that digests; queues are bounded, so memory does not grow with the stream.

use std::io::{self, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::base::digest::{Hasher, Sha256};

const CHUNK: usize = 512 << 10;
const QUEUE: usize = 6;

/// Hands `from` to `body` as a reader and returns what `body` made of it with the digest and length of the whole
/// stream, also of what `body` left unread. A read error surfaces in `body`, or after it.
pub(super) fn digested<T, E: From<io::Error>>(
    mut from: impl Read + Send,
    body: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<(T, Sha256, u64), E> {
    let first = chunk(&mut from)?;
    if first.len() < CHUNK {
        let made = body(&mut &first[..])?;
        return Ok((made, Sha256::of(&first), first.len() as u64));
    }
    std::thread::scope(|scope| {
        let (to_body, chunks) = bounded::<io::Result<Arc<Vec<u8>>>>(QUEUE);
        let (to_hash, hash_queue) = bounded::<Arc<Vec<u8>>>(QUEUE);
        scope.spawn(move || {
            let mut next = Ok(first);
            loop {
                let ended = match &next {
                    Ok(chunk) => chunk.len() < CHUNK,
                    Err(_) => true,
                };
                let chunk = next.map(Arc::new);
                if let Ok(chunk) = &chunk {
                    // Fails only when the digest is no longer wanted.
                    let _ = to_hash.send(Arc::clone(chunk));
                }
                // Nobody reads any more: the reader failed.
                if to_body.send(chunk).is_err() || ended {
                    return;
                }
                next = self::chunk(&mut from);
            }
        });
        let hasher = scope.spawn(move || {
            let (mut hasher, mut length) = (Hasher::new(), 0);
            for chunk in hash_queue {
                hasher.update(&chunk);
                length += chunk.len() as u64;
            }
            (hasher.finish(), length)
        });
        let mut reader = Chunks { queue: chunks, chunk: Arc::default(), at: 0 };
        let made = body(&mut reader)?;
        io::copy(&mut reader, &mut io::sink())?;
        drop(reader);
        let (digest, length) = hasher.join().map_err(|_| io::Error::other("the digest thread ended early"))?;
        Ok((made, digest, length))
    })
}

fn chunk(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    from.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

struct Chunks {
    queue: Receiver<io::Result<Arc<Vec<u8>>>>,
    chunk: Arc<Vec<u8>>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.queue.recv() {
                Ok(next) => (self.chunk, self.at) = (next?, 0),
                Err(_) => return Ok(0),
            }
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
    fn the_digest_covers_what_nobody_read() {
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
    fn errors_on_either_side_end_it() {
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
        let torn = digested::<_, io::Error>(Breaks(9), |reader| io::copy(reader, &mut io::sink()));
        assert_eq!(torn.unwrap_err().to_string(), "torn");
    }
}
