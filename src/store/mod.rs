//! Blobs, names and scratch space on disk.
//!
//! **Holds.** The store is a valid OCI image layout that skopeo and umoci read as it is. A file exists under its digest
//! only if its bytes hash to it (`blobs`); a name in `index.json` points at a manifest that was whole when it was named
//! (`tags`). Many processes share one store: plain files, atomic rename, `flock`; no daemon, no database.
//! **On disk.** Mode 0700.
//!
//! ```text
//! <root>/
//! ├── version                     format number; newer than ours → refuse, naming both
//! ├── oci-layout index.json       names; replaced atomically under a flock of <root> itself
//! ├── index.json.old              the names before the last change, should index.json be damaged
//! ├── blobs/sha256/<hex>          mode 0400, and 0444 once it is on the disk
//! ├── cache/v1/<kk>/<key>         one record per step key
//! ├── cache/slots/…               the last key per slot, to explain misses
//! ├── layers/<diff-id>/           an unpacked layer and what is known of it (`snapshot`); derivable from blobs
//! ├── context/<id>                stat index per context directory
//! ├── fetched/                    what ADD and remote contexts downloaded
//! ├── mounts/<hash>/<n>/          cache mounts
//! ├── claims/<name>               work in progress: steps, unpacking, downloads
//! ├── lock                        shared while looking, exclusive while removing
//! └── scratch/<n>/                locked by its owner; unlocked ones are swept at open
//! ```
//!
//! **Order.** Blob → record → manifest → name. Interrupted anywhere, also by a power cut, what is named is whole (`persist`).
//! What is damaged and can be derived is never fatal: it is said ([`Store::notices`]) and derived again. Opening a blob
//! verifies it, and one that does not verify is removed, so that it is made or fetched again.
//! **Not here.** What a record or a stat index says: `cache`, `context`. What a layer holds: `layer`.

mod archive;
mod blobs;
mod directory;
mod error;
mod gc;
mod images;
mod index;
mod layout;
mod lease;
mod mounts;
mod names;
mod open;
mod persist;
mod recover;
mod scratch;
mod survey;
mod tags;
mod usage;

pub use crate::base::claim::{Claim, Claiming};
pub use archive::{Archive, Target};
pub use blobs::BlobDraft;
pub use directory::Store;
pub use error::Error;
pub use gc::{Policy, Sweep, plan};
pub use images::Found;
pub use layout::Layout;
pub use lease::Moment;
pub use mounts::{MountInstance, MountLock, MountRoot, MountSharing, mount_name};
pub use names::{CONTAINERD_NAME, Entry, REF_NAME};
pub use open::FORMAT;
pub use scratch::Scratch;
pub use survey::{Busy, Held, Kept, Step, Survey, Unpacked};

#[cfg(test)]
mod tests;
