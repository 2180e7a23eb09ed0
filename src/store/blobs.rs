//! Blobs by digest.
//!
//! **Holds.** A file exists under its digest only if its bytes hash to it: content from outside is verified when it is
//! stored, and a [`BlobDraft`] is named by the digest that its writer computed in the same pass.
//! **On disk.** `blobs/sha256/<64 hex>`, by rename from scratch; synced when something durable names it (`persist`). Until
//! then a power cut may leave it short or with other bytes, which [`BlobSink::has`] detects afterwards. A blob that turns out
//! to be damaged when it is read is removed (S-130). A sound blob is never replaced by one that is not synced.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crate::base::digest::{BlobDigest, DiffId};
use crate::base::durable::Unsynced;
use crate::base::fs::{self, FsError};
use crate::base::lock::{Patience, Shared};
use crate::base::notice::Notices;
use crate::base::publish::{self, Draft};
use crate::base::sparse::{SparseFile, SparseRead};
use crate::base::time::Timestamp;
use crate::base::verify::{Mismatch, Verified};
use crate::oci::blob::{BlobError, BlobFault, BlobSink, BlobSource, DownloadClaim};
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;

use super::persist::{Integrity, NEW};
use super::{Claim, Claiming, Error, Store};

/// How to get a lost blob back.
const AGAIN: &str = "pull, import or build its image again";
const COPY_BUFFER: usize = 256 * 1024;

impl Store {
    /// Where the blob is, or would be.
    pub(crate) fn blob_path(&self, digest: BlobDigest) -> PathBuf {
        self.blobs_dir().join(digest.hex())
    }

    fn blobs_dir(&self) -> PathBuf {
        self.root().join("blobs/sha256")
    }

    /// Stores a document. Ok: the descriptor's content is stored.
    pub(crate) fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        let blob = Descriptor::of(media_type, bytes);
        if !self.has(&blob)? {
            let mut draft = self.draft_blob()?;
            draft.write_all(bytes).map_err(|e| FsError::new("write", draft.draft.path(), e))?;
            draft.name(blob.digest, blob.size)?;
        }
        Ok(blob)
    }

    /// The whole of a document, verified.
    pub(crate) fn get(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open(blob)?.read_to_end(&mut bytes).map_err(|e| blob_error("read", blob.digest, &e))?;
        Ok(bytes)
    }

    /// Starts a blob whose digest is not known yet.
    pub(crate) fn draft_blob(&self) -> Result<BlobDraft, Error> {
        let (unsynced, booted) = (Arc::clone(&self.unsynced), self.booted());
        let lock = self.leased.load(Ordering::Acquire).then(|| self.lock_path());
        Ok(BlobDraft { blobs: self.blobs_dir(), draft: self.draft()?, unsynced, booted, lock })
    }

    /// The stored file, not verified, for copying ranges whose digests the caller checks.
    pub(crate) fn blob_file(&self, digest: BlobDigest) -> Result<File, Error> {
        let path = self.blob_path(digest);
        fs::open(&path).map_err(|e| blob_error("open", digest, &e.source).into())
    }

    /// Marks the blob at `path` as used. A mark makes the file look younger than the machine's start, so a doubtful one is
    /// read first.
    fn keep_blob(&self, blob: &Descriptor, path: &Path) -> io::Result<()> {
        if self.leased.load(Ordering::Acquire) {
            self.is_stored(blob, path)?;
        }
        self.keep(path).map_err(|e| e.source)
    }

    /// The blob at `path`, verified as it is read.
    pub(super) fn open_stored(
        &self,
        blob: &Descriptor,
        path: PathBuf,
    ) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let file = fs::open(&path).map_err(|e| blob_error("open", blob.digest, &e.source))?;
        let metadata = file.metadata().map_err(|e| blob_error("open", blob.digest, &e))?;
        let (inode, notices, removed) = (metadata.ino(), self.notices().clone(), Arc::clone(&self.removed));
        let inner = Verified::new(SparseFile::new(file, blob.size), blob.digest.0, blob.size);
        Ok(Box::new(Stored { path, inode, inner, notices, removed }))
    }

    /// The stored blob, verified as it is read; a damaged one stays, and nothing is marked as used.
    pub(super) fn open_untouched(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let file = fs::open(&self.blob_path(blob.digest)).map_err(|e| blob_error("open", blob.digest, &e.source))?;
        Ok(Box::new(Verified::new(SparseFile::new(file, blob.size), blob.digest.0, blob.size)))
    }

    /// Whether it is known that the blob, decompressed, is this layer. Kept beside the unpacked layer.
    pub(crate) fn is_layer(&self, blob: BlobDigest, diff_id: DiffId) -> bool {
        std::fs::symlink_metadata(self.layer_note(blob, diff_id)).is_ok()
    }

    /// Remembers that the blob, decompressed, is this layer. Best effort: without it the blob is read again.
    pub(crate) fn know_layer(&self, blob: BlobDigest, diff_id: DiffId) {
        let _ = publish::atomic_over(&self.layer_note(blob, diff_id), b"", 0o600);
    }

    fn layer_note(&self, blob: BlobDigest, diff_id: DiffId) -> PathBuf {
        self.layer_dir(diff_id).join(format!("of-{}", blob.hex()))
    }

    /// The stored size of a blob; `None`: it is not stored.
    pub(crate) fn blob_size(&self, digest: BlobDigest) -> Result<Option<u64>, Error> {
        size_of(&self.blob_path(digest)).map_err(|e| blob_error("stat", digest, &e).into())
    }
}

impl BlobSource for Store {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let path = self.blob_path(blob.digest);
        self.keep_blob(blob, &path).map_err(|e| blob_error("open", blob.digest, &e))?;
        match self.open_stored(blob, path.clone()) {
            Err(error) if error.fault == BlobFault::Missing => {
                let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match elsewhere {
                    Some(elsewhere) if elsewhere.fetch(self, blob)? => self.open_stored(blob, path),
                    _ => Err(error),
                }
            }
            opened => opened,
        }
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Option<Box<dyn Read + Send>> {
        let path = self.blob_path(blob.digest);
        self.keep_blob(blob, &path).ok()?;
        let mut file = fs::open(&path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.len() == blob.size))?;
        file.seek(SeekFrom::Start(range.start)).ok()?;
        Some(Box::new(file.take(range.end - range.start)))
    }
}

impl BlobSink for Store {
    fn has(&self, blob: &Descriptor) -> Result<bool, BlobError> {
        let (path, fail) = (self.blob_path(blob.digest), |e: &io::Error| blob_error("stat", blob.digest, e));
        self.keep_blob(blob, &path).map_err(|e| fail(&e))?;
        self.is_stored(blob, &path).map_err(|e| fail(&e))
    }

    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError> {
        self.accept_if(blob, content, |_| Ok(()))
    }

    fn may_know(&self, name: &Reference) -> bool {
        !matches!(self.resolve(name), Ok(None))
    }

    fn claim_download(&self, blob: &Descriptor, go_on: &dyn Fn() -> bool) -> Result<Box<dyn DownloadClaim>, BlobError> {
        let check = || if go_on() { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) };
        // Not announced: the command shows that it fetches bytes.
        let mut tell = |_: &str| ();
        let mut patience = Patience::new(&mut tell).checking(check);
        match self.claim(&format!("blob-{}", blob.digest.hex()), &mut patience) {
            Ok(Claiming::Ours(claim)) => Ok(Box::new(claim)),
            Ok(Claiming::Failed) => Ok(Box::new(())),
            Err(e) => Err(blob_error("claim", blob.digest, &io::Error::other(e))),
        }
    }
}

impl Store {
    /// [`BlobSink::accept`] of content that `check` does not refuse, after it was read to its end and verified.
    pub(crate) fn accept_if<R: Read>(
        &self,
        blob: &Descriptor,
        mut content: R,
        check: impl FnOnce(R) -> Result<(), BlobError>,
    ) -> Result<(), BlobError> {
        let fail = |e: &io::Error| blob_error("store", blob.digest, e);
        let mut draft = self.draft_blob().map_err(|e| fail(&io::Error::other(e)))?;
        let mut verified = Verified::new(content.by_ref(), blob.digest.0, blob.size);
        copy(&mut verified, &mut draft).map_err(|e| fail(&e))?;
        check(content)?;
        draft.name(blob.digest, blob.size).map_err(|e| fail(&e.source))
    }
}

impl DownloadClaim for Claim {
    fn failed(self: Box<Self>) {
        Claim::failed(*self);
    }
}

/// A blob being written; dropping it without [`BlobDraft::finish`] leaves nothing.
#[derive(Debug)]
pub(crate) struct BlobDraft {
    blobs: PathBuf,
    draft: Draft,
    unsynced: Arc<Unsynced>,
    booted: Timestamp,
    /// With a lease: the lock to share while a blob that exists is marked as used.
    lock: Option<PathBuf>,
}

impl BlobDraft {
    /// Names the blob by the digest that its writer computed over the bytes written here.
    /// Ok: the content is stored under its digest, atomically. A file of another size is an error: bytes were lost.
    pub(crate) fn finish(mut self, digest: BlobDigest, size: u64) -> Result<(), Error> {
        self.draft.set_len().map_err(|e| FsError::new("write", self.draft.path(), e))?;
        let written = self.draft.file().metadata().map_err(|e| FsError::new("stat", self.draft.path(), e))?.len();
        if written != size {
            let mismatch = Mismatch::Size { digest: digest.0, want: size, got: written };
            return Err(blob_error("store", digest, &io::Error::new(io::ErrorKind::InvalidData, mismatch)).into());
        }
        Ok(self.name(digest, size)?)
    }

    /// Renames the draft, unless a sound blob has the name: that one may be on the disk already.
    fn name(self, digest: BlobDigest, size: u64) -> Result<(), FsError> {
        let path = self.blobs.join(digest.hex());
        let lock = self.lock.as_deref();
        let _moment = lock.map(|lock| Shared::wait(lock, &mut Patience::new(&mut |_| ()))).transpose()?;
        let there = std::fs::symlink_metadata(&path);
        if there.is_ok_and(|meta| Integrity::of(&meta, size, self.booted) == Integrity::Sound) {
            fs::touch(&path);
            return Ok(());
        }
        self.draft.publish_unsynced(&path, NEW, &self.unsynced)
    }
}

impl Write for BlobDraft {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.draft.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.flush()
    }
}

/// A stored blob being read. If it turns out to be damaged, the file is removed.
struct Stored {
    path: PathBuf,
    inode: u64,
    inner: Verified<SparseFile<File>>,
    notices: Notices,
    removed: Arc<AtomicUsize>,
}

impl SparseRead for Stored {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        self.inner.zeros(max)
    }
}

impl Read for Stored {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|e| {
            let Some(mismatch) = e.get_ref().and_then(|e| e.downcast_ref::<Mismatch>()) else {
                // The disk cannot read it any more.
                if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
                    self.discard(&e.to_string());
                }
                return e;
            };
            // A wrong size may be the descriptor's fault, a wrong digest is the file's.
            if matches!(mismatch, Mismatch::Digest { .. }) {
                self.discard(&mismatch.to_string());
            }
            io::Error::new(e.kind(), format!("the store's copy is damaged: {AGAIN}: {mismatch}"))
        })
    }
}

impl Stored {
    /// Removes the file, unless it was replaced by a good one meanwhile.
    fn discard(&self, why: &str) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode)
            && fs::remove_file(&self.path).is_ok()
        {
            self.removed.fetch_add(1, Ordering::Relaxed);
            self.notices.note(format!("removed the damaged blob {}", self.path.display()), why);
        }
    }
}

/// Copies everything, in large steps.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0u8; COPY_BUFFER];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        to.write_all(&buffer[..n])?;
        total += n as u64;
    }
}

fn size_of(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn blob_error(operation: &'static str, digest: BlobDigest, error: &io::Error) -> BlobError {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let reason = if missing { format!("not in the store: {AGAIN}") } else { error.to_string() };
    let fault = match error.get_ref() {
        _ if missing => BlobFault::Missing,
        Some(inner) if inner.is::<Mismatch>() => BlobFault::Mismatch,
        _ => BlobFault::Other,
    };
    BlobError { operation, digest, reason, fault }
}
