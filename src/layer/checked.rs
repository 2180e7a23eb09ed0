//! Reading a layer in another thread while its blob arrives.

use std::io::{self, Read};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::digest::DiffId;
use crate::base::sparse::SparseRead;

use super::ahead::digested;
use super::decompress::decompress;
use super::error::Error;
use super::limits::Limits;

/// Pieces that may wait to be decompressed.
const QUEUE: usize = 16;

/// The digest of what `blob` holds, decompressed. Ok: it was read to its end.
pub(crate) fn diff_id_of(blob: impl SparseRead + Send, limits: &Limits) -> Result<DiffId, Error> {
    let (_, plain) = decompress(blob, limits).map_err(Error::Stream)?;
    let ((), digest, _) = digested(plain, |_| Ok(())).map_err(Error::Stream)?;
    Ok(DiffId(digest))
}

/// Ok: `blob` is the layer `want`; it was read to its end.
pub(crate) fn verify_diff_id(blob: impl SparseRead + Send, want: DiffId, limits: &Limits) -> Result<(), Error> {
    let got = diff_id_of(blob, limits)?;
    if got == want { Ok(()) } else { Err(Error::DiffId { want, got }) }
}

/// Passes a blob on while another thread reads it.
pub(crate) struct Checked<R, T> {
    inner: R,
    sender: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<T, Error>>>,
}

impl<R: Read, T: Send + 'static> Checked<R, T> {
    /// Starts `read`, in a thread of its own, with the bytes of `inner`.
    pub(crate) fn new(
        inner: R,
        read: impl FnOnce(Box<dyn SparseRead + Send>) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = bounded(QUEUE);
        let pieces = Box::new(Pieces { receiver, piece: Vec::new(), at: 0 });
        Self { inner, sender: Some(sender), thread: Some(std::thread::spawn(move || read(pieces))) }
    }
}

impl<R, T> Checked<R, T> {
    /// What the thread returned. Call it after the digest of the blob was verified, whose error tells more.
    pub(crate) fn finish(mut self) -> Result<T, Error> {
        self.end().unwrap_or_else(|| Err(Error::Stream(io::ErrorKind::Other.into())))
    }

    /// Waits until the thread has ended.
    fn end(&mut self) -> Option<Result<T, Error>> {
        self.sender = None;
        self.thread.take()?.join().ok()
    }
}

impl<R, T> Drop for Checked<R, T> {
    fn drop(&mut self) {
        // Nothing is written any more once the download is given up.
        self.end();
    }
}

impl<R: Read, T> Read for Checked<R, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        // If the other thread has ended early, `finish` returns its error.
        if n > 0 && self.sender.as_ref().is_some_and(|sender| sender.send(buf[..n].to_vec()).is_err()) {
            self.sender = None;
        }
        Ok(n)
    }
}

/// The pieces of a stream as a reader.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl SparseRead for Pieces {}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let n = (&self.piece[self.at..]).read(buf)?;
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::base::digest::Sha256;

    #[test]
    fn checked_tells_another_layer() {
        let plain: Vec<u8> = (0..3_000_000u32).map(|n| (n >> 7) as u8).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let want = DiffId(Sha256::of(&plain));
        let read = |blob: &[u8], want| {
            let verify = move |blob| verify_diff_id(blob, want, &Limits::default());
            let (mut out, mut reader) = (Vec::new(), Checked::new(blob, verify));
            reader.read_to_end(&mut out).unwrap();
            reader.finish().map(|()| out)
        };
        assert_eq!(read(&gzip, want).unwrap(), gzip);
        assert_eq!(read(&plain, want).unwrap(), plain);
        for (blob, want) in [
            (&gzip[..], DiffId(Sha256::of(&gzip))),
            (&plain[..100], want),
            (&gzip[..gzip.len() / 2], want),
            (b"", want),
        ] {
            assert!(read(blob, want).is_err());
        }
    }
}
