//! Caches that machines share: in a registry, in a directory, in a bucket of an S3 store, in GitHub Actions.
//!
//! **Holds.** An [`Entry`] says what one key leads to: `step-<key>` to the layer of a step, `root-<key>` to the layers of a
//! whole image. Entries are written once, and replaced only by a build that found one too old, or made over other layers;
//! there is no list of them, so that any number of builds write at the same time. [`Remote`] is one cache, [`Remotes`] all those that a build reads,
//! [`Sender`] those that it writes.
//! Names that begin with `action-` are kept for entries that do not depend on the step below.
//! **In parts.** A large layer of which the cache has most already is not sent: its entry says which ranges of stored blobs it
//! is put together from, and one pack has the new bytes ([`Parts`](parts::Parts)). What the cache has is known from
//! `slot-<place>`: the layer that was made last in the same place of a Dockerfile, with its segments. It decides how much is
//! sent, never what a build gets, and the last writer wins.
//! **Cache mounts.** `mount-<identity>` leads to the files of a cache mount as a layer, in parts as well. It is replaced: what a
//! command finds in a cache mount may be old or missing anyway.
//! **In a registry.** A tag per entry, for a manifest that has the entry as an annotation; its layers are ordinary blobs of the
//! repository. **In a directory, in a bucket.** `v1/<kind>/<kk>/<key>`, and `blobs/sha256/<hex>`. **In GitHub Actions.** An index with all
//! entries, and packs with all blobs ([`GhaCache`]).
//! **Written together.** Builds that make the same layer at the same time upload it once ([`UploadClaim`]).
//! **Trust.** Whoever can write to a cache decides what its entries lead to; everything else is verified: that an entry
//! answers the key it was asked for, sizes, digests, diff-ids. An entry has room for a signature.
//! **Failures.** A cache that cannot be reached, is slow or full, or answers nonsense is reported once and not asked again in
//! this build. It fails nothing.
//! **Not here.** Which keys to ask for: `engine`.

mod assembly;
mod claim;
mod cut;
mod directory;
mod entry;
mod error;
mod gha;
mod mounts;
mod parts;
mod registry;
mod remotes;
mod s3;
mod sender;
mod upload;
mod written;

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::oci::blob::{BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;
use crate::transport::{Pace, Timing};

pub(crate) use claim::UploadClaim;
pub(crate) use cut::{Cut, MIN_CUT, Segments};
pub(crate) use directory::Directory;
pub(crate) use entry::{Entry, EntryName, ImageEntry, LayerEntry};
pub(crate) use error::RemoteError;
pub(crate) use gha::{GhaCache, GhaPlace, GhaPlaceError};
pub(crate) use mounts::Mounts;
pub(crate) use registry::RegistryCache;
pub(crate) use remotes::{Failure, Remotes};
pub(crate) use s3::{S3Cache, S3Place, S3PlaceError, S3Settings};
pub(crate) use sender::Sender;
pub(crate) use written::{Mode, Target};

/// A cache that takes longer to answer a question, or many questions asked at once, is given up.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// The slowest transfer that is worth its time: so many bytes while a cache may keep a build waiting.
const SLOWEST: u64 = 256 << 10;

/// Attempts and time-outs of caches that may keep a build waiting for `patience`: a build can go on without them.
pub(crate) fn timing(patience: Duration) -> Timing {
    Timing {
        attempts: 3,
        longest_pause: patience,
        connect: patience,
        stall: patience,
        pace: Pace { bytes: SLOWEST, window: patience },
        ..Timing::default()
    }
}

/// One shared cache.
pub(crate) trait Remote: Send + Sync {
    /// What it is and where, for messages. Two values with the same name are the same cache.
    fn name(&self) -> &str;

    /// The entry with this name. Ok(Some): it is well-formed and answers `name`.
    fn get(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError>;

    /// Whether there is an entry with this name, whatever it says.
    fn has(&self, name: &EntryName) -> Result<bool, RemoteError>;

    /// Copies a blob into `store`, which verifies it.
    fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), RemoteError>;

    /// Some bytes of a blob, unverified.
    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Result<Box<dyn Read + Send + '_>, RemoteError>;

    /// Whether the cache has the blob.
    fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError>;

    /// Ok: the cache has the blob. Nothing is sent if it had it, or can take it from another place of its own.
    fn put_blob(&self, blob: &Descriptor, from: &dyn BlobSource) -> Result<(), RemoteError>;

    /// Stores an entry whose blobs are stored. Unless it `replaces` one, an entry that exists stays as it is, as far as the
    /// cache can tell. Ok(false): there was one. Whoever reads meanwhile gets the old entry or the new one.
    fn put(&self, entry: &Entry, replaces: bool) -> Result<bool, RemoteError>;

    /// Announces an upload. Some: another build has announced it, and this one should wait for what that one writes.
    fn claim(&self, _: &UploadClaim) -> Result<Option<UploadClaim>, RemoteError> {
        Ok(None)
    }

    /// Whether an entry that cannot be read is replaced.
    fn replaces_unreadable(&self) -> bool {
        false
    }

    /// Notes that the cache has an entry that is in use.
    fn used(&self, _name: &EntryName) {}

    /// Ends what [`Remote::put_blob`] and [`Remote::put`] began. Ok: the cache has all of it. Blobs may be read again, `from`
    /// where they came from.
    fn finish(&self, _from: &dyn BlobSource) -> Result<(), RemoteError> {
        Ok(())
    }

    /// The repository with its blobs, if it is one: images may go on naming it for blobs that were never fetched.
    fn repository(&self) -> Option<&Reference> {
        None
    }

    /// Something worth telling about a cache that had no entry at all.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Ends what is waited for, and refuses more.
    fn cancel(&self) {}
}

/// Asks `remote` in another thread. When `patience` is over, says so to `give_up`, and cancels what runs.
fn within<T: Send>(
    patience: Duration,
    remote: &dyn Remote,
    give_up: impl Fn(),
    ask: impl FnOnce() -> Result<T, RemoteError> + Send,
) -> Result<T, RemoteError> {
    let until = Instant::now() + patience;
    std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        let mut late = false;
        while !asking.is_finished() {
            if !late && Instant::now() >= until {
                late = true;
                give_up();
                remote.cancel();
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        match asking.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(Err(_)) if late => Err(RemoteError::Late(patience.as_secs())),
            Ok(answer) => answer,
        }
    })
}
