//! Puts a blob together from its parts.
//!
//! **Order.** Ranges of blobs that are here are read from there; the rest is fetched, one range after the other.
//! **Not here.** Verification: the store verifies the whole.

use std::io::{self, Read};
use std::ops::Range;

use crate::oci::blob::{BlobFault, BlobStore};
use crate::oci::descriptor::Descriptor;

use super::parts::{Parts, Stored};
use super::{Remote, RemoteError};

/// Puts `blob` together in `store`, which verifies it.
pub(super) fn assemble(
    remote: &dyn Remote,
    blob: &Descriptor,
    parts: &Parts,
    store: &dyn BlobStore,
) -> Result<(), RemoteError> {
    let mut assembly = Assembly::new(remote, Some(store), parts);
    match store.accept(blob, &mut assembly) {
        // A blob that is here may be damaged.
        Err(error) if error.fault != BlobFault::Missing && assembly.used_local => {
            let mut assembly = Assembly::new(remote, None, parts);
            let accepted = store.accept(blob, &mut assembly);
            accepted.map_err(|error| assembly.failure.unwrap_or_else(|| error.into()))
        }
        Err(error) => Err(assembly.failure.unwrap_or_else(|| error.into())),
        Ok(()) => Ok(()),
    }
}

/// Reads a blob from its parts, unverified.
struct Assembly<'a> {
    remote: &'a dyn Remote,
    local: Option<&'a dyn BlobStore>,
    ranges: std::vec::IntoIter<(Stored, Range<u64>)>,
    /// The range being read, and how much of it is left.
    now: Option<(Box<dyn Read + Send + 'a>, u64)>,
    used_local: bool,
    /// Why a range could not be read; an `io::Error` cannot carry it.
    failure: Option<RemoteError>,
}

impl<'a> Assembly<'a> {
    fn new(remote: &'a dyn Remote, local: Option<&'a dyn BlobStore>, parts: &Parts) -> Self {
        let ranges = parts.ranges().collect::<Vec<_>>().into_iter();
        Self { remote, local, ranges, now: None, used_local: false, failure: None }
    }

    fn open(&mut self, blob: Stored, range: Range<u64>) -> io::Result<Box<dyn Read + Send + 'a>> {
        let blob = blob.descriptor();
        if let Some(local) = self.local.and_then(|local| local.part(&blob, range.clone())) {
            self.used_local = true;
            return Ok(local);
        }
        self.remote.part(&blob, range).map_err(|error| {
            let text = io::Error::other(error.to_string());
            self.failure = Some(error);
            text
        })
    }
}

impl Read for Assembly<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.now {
                Some((reader, left)) if *left > 0 && !buf.is_empty() => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                    let n = reader.read(&mut buf[..most])?;
                    *left -= n as u64;
                    return if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(n) };
                }
                Some((_, 1..)) => return Ok(0),
                // A body that was read to its end gives its connection back.
                Some((reader, _)) => drop(reader.read(&mut [0])),
                None => {}
            }
            let Some((blob, range)) = self.ranges.next() else { return Ok(0) };
            let length = range.end - range.start;
            self.now = Some((self.open(blob, range)?, length));
        }
    }
}
