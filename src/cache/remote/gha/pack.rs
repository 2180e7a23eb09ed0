//! The blobs of one build, back to back in one entry of the Actions cache.
//!
//! **Order.** Blobs are sent beside the build: large ones in blocks of their own, small ones together. Their order in the pack is
//! decided at the end, when the list of blocks is written. The URL to write to is valid for an hour: what was sent to one that
//! is refused is sent again at the end, to another.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::digest::{BlobDigest, Sha256};
use crate::base::time::Timestamp;
use crate::base::unique;
use crate::base::verify::Verified;
use crate::oci::blob::{BlobError, BlobFault, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::transport::{HttpError, Url};

use super::super::RemoteError;
use super::index::Location;
use super::refs::Scope;
use super::service::Service;

/// The most bytes of one request.
const BLOCK: usize = 16 << 20;
/// Blobs of at most this size are sent together.
const SMALL: u64 = 1 << 20;
/// How often a key is chosen.
const ATTEMPTS: usize = 3;

/// A pack that is written.
#[derive(Default)]
pub(super) struct Pack {
    upload: Mutex<Option<Upload>>,
    next: AtomicU32,
    parts: Mutex<Vec<Part>>,
    small: Mutex<Small>,
    /// All its blobs, whether sent or not.
    blobs: Mutex<Vec<Added>>,
    /// The URL is not accepted any more.
    refused: AtomicBool,
}

/// A blob that was added, with its source, if that is for it alone.
type Added = (Descriptor, Option<Box<dyn BlobSource + Send>>);

#[derive(Clone)]
struct Upload {
    id: String,
    url: Url,
}

/// Blocks that belong together, with the blobs in them.
struct Part {
    blocks: Vec<String>,
    blobs: Vec<(BlobDigest, u64)>,
}

/// Small blobs that are not sent yet.
#[derive(Default)]
struct Small {
    bytes: Vec<u8>,
    blobs: Vec<(BlobDigest, u64)>,
}

/// Where the blobs of a pack are.
pub(super) type Places = BTreeMap<BlobDigest, Location>;

/// What is needed to write one.
#[derive(Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) service: &'a Service,
    pub(super) scope: &'a Scope,
    pub(super) from: &'a dyn BlobSource,
}

impl Pack {
    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.blobs).is_empty()
    }

    /// Adds a blob. Ok: [`Pack::commit`] has it.
    pub(super) fn add(&self, blob: &Descriptor, writer: Writer<'_>) -> Result<(), RemoteError> {
        lock(&self.blobs).push((blob.clone(), writer.from.kept()));
        if self.refused.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sent = match blob.size <= SMALL {
            true => self.add_small(blob, writer),
            false => self.add_large(blob, writer),
        };
        self.unless_refused(sent).map(drop)
    }

    /// Makes the pack an entry of the cache. Ok: it is there.
    pub(super) fn commit(&self, writer: Writer<'_>) -> Result<Places, RemoteError> {
        if !self.refused.load(Ordering::Relaxed)
            && let Some(places) = self.unless_refused(self.finish(writer))?
        {
            return Ok(places);
        }
        let again = Self::default();
        for (blob, own) in lock(&self.blobs).iter() {
            let from: &dyn BlobSource = if let Some(own) = own { &**own } else { writer.from };
            match again.add(blob, Writer { from, ..writer }) {
                // It was from elsewhere: the index leaves out what needs it.
                Err(RemoteError::Blob(BlobError { fault: BlobFault::Missing, .. })) => {}
                added => added?,
            }
        }
        again.finish(writer)
    }

    fn add_small(&self, blob: &Descriptor, writer: Writer<'_>) -> Result<(), RemoteError> {
        let bytes = Content::open(blob, writer.from)?.next(blob.size as usize)?;
        let mut small = lock(&self.small);
        small.bytes.extend(bytes);
        small.blobs.push((blob.digest, blob.size));
        if small.bytes.len() < BLOCK {
            return Ok(());
        }
        let full = std::mem::take(&mut *small);
        drop(small);
        self.send_small(full, &self.begin(writer)?, writer.service)
    }

    fn add_large(&self, blob: &Descriptor, writer: Writer<'_>) -> Result<(), RemoteError> {
        let upload = self.begin(writer)?;
        let (mut content, mut blocks) = (Content::open(blob, writer.from)?, Vec::new());
        while content.left > 0 {
            let block = content.next(BLOCK)?;
            blocks.push(self.send_block(&block, &upload, writer.service)?);
        }
        lock(&self.parts).push(Part { blocks, blobs: vec![(blob.digest, blob.size)] });
        Ok(())
    }

    fn send_small(&self, small: Small, upload: &Upload, service: &Service) -> Result<(), RemoteError> {
        let block = self.send_block(&small.bytes, upload, service)?;
        lock(&self.parts).push(Part { blocks: vec![block], blobs: small.blobs });
        Ok(())
    }

    /// Ok: the id of the block.
    fn send_block(&self, bytes: &[u8], upload: &Upload, service: &Service) -> Result<String, RemoteError> {
        let id = format!("{:09}", self.next.fetch_add(1, Ordering::Relaxed));
        service.write_block(&upload.url, &id, bytes)?;
        Ok(id)
    }

    /// The entry that is written; the first call reserves it.
    fn begin(&self, writer: Writer<'_>) -> Result<Upload, RemoteError> {
        let mut upload = lock(&self.upload);
        if let Some(upload) = &*upload {
            return Ok(upload.clone());
        }
        for _ in 0..ATTEMPTS {
            let id = unique_id();
            // Somebody has it, or it is the second attempt of a request whose answer was lost.
            let Some(url) = writer.service.reserve(&writer.scope.pack(&id))? else { continue };
            return Ok(upload.insert(Upload { id, url }).clone());
        }
        Err(RemoteError::Invalid { name: writer.scope.pack("").key, why: "every key is taken".to_owned() })
    }

    fn finish(&self, writer: Writer<'_>) -> Result<Places, RemoteError> {
        let upload = self.begin(writer)?;
        let small = std::mem::take(&mut *lock(&self.small));
        if lock(&self.parts).is_empty() {
            // One request is enough.
            writer.service.write(&upload.url, &small.bytes)?;
            lock(&self.parts).push(Part { blocks: Vec::new(), blobs: small.blobs });
        } else {
            if !small.blobs.is_empty() {
                self.send_small(small, &upload, writer.service)?;
            }
            let blocks: Vec<String> = lock(&self.parts).iter().flat_map(|part| part.blocks.clone()).collect();
            writer.service.write_list(&upload.url, &blocks)?;
        }
        let (mut places, mut offset) = (Places::new(), 0);
        for (digest, length) in lock(&self.parts).iter().flat_map(|part| part.blobs.iter().copied()) {
            places.insert(digest, Location { pack: upload.id.clone(), offset, length });
            offset += length;
        }
        writer.service.finalize(&writer.scope.pack(&upload.id), offset)?;
        Ok(places)
    }

    /// Notes that the URL was refused. Ok(None): it was.
    fn unless_refused<T>(&self, sent: Result<T, RemoteError>) -> Result<Option<T>, RemoteError> {
        match sent {
            Err(RemoteError::Http(HttpError::Status { status: 403, url, .. }))
                if lock(&self.upload).as_ref().is_some_and(|upload| upload.url.without_query() == url) =>
            {
                self.refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            sent => sent.map(Some),
        }
    }
}

/// A blob that is read once, in pieces; the last piece is given only if all of it is what it should be.
struct Content<'a> {
    blob: &'a Descriptor,
    bytes: Verified<Box<dyn crate::base::sparse::SparseRead + Send>>,
    left: u64,
}

impl<'a> Content<'a> {
    fn open(blob: &'a Descriptor, from: &dyn BlobSource) -> Result<Self, RemoteError> {
        let bytes = Verified::new(from.open(blob)?, blob.digest.0, blob.size);
        Ok(Self { blob, bytes, left: blob.size })
    }

    /// At most `most` bytes.
    fn next(&mut self, most: usize) -> Result<Vec<u8>, RemoteError> {
        let length = self.left.min(most as u64);
        self.left -= length;
        let mut bytes = Vec::with_capacity(length as usize);
        let mut read = (&mut self.bytes).take(length).read_to_end(&mut bytes);
        if self.left == 0 && read.is_ok() {
            read = self.bytes.read(&mut [0]);
        }
        let (operation, digest, fault) = ("read", self.blob.digest, BlobFault::Other);
        let failed = |e: std::io::Error| BlobError { operation, digest, reason: e.to_string(), fault };
        read.map_err(failed)?;
        Ok(bytes)
    }
}

/// A name that nobody else chooses.
fn unique_id() -> String {
    let host = rustix::system::uname();
    let own = format!("{:?} {:?} {}", host.nodename(), Timestamp::now(), unique::name(""));
    Sha256::of(own.as_bytes()).hex()[..32].to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
