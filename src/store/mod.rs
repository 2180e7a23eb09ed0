//! The store: blobs, image names, cache mounts and scratch space on disk.
//!
//! **Holds.** The store is a valid OCI image layout that skopeo and umoci can read. A file exists under its digest only if
//! its bytes hash to it (`blobs`). A name in `index.json` points to a manifest that was complete when it was named (`tags`),
//! or to an index whose images may lack layers that a registry has (`sources`).
//! Many processes share one store through plain files, atomic renames and `flock`, without a daemon or a database.
//! **On disk.** Mode 0700.
//!
//! ```text
//! <root>/
//! ├── version                     format number; a newer one is an error
//! ├── oci-layout index.json       image names; replaced atomically under a flock of <root>
//! ├── index.json.old              the names before the last change, in case index.json is damaged
//! ├── blobs/sha256/<hex>          mode 0400, and 0444 once synced
//! ├── cache/v1/<kk>/<key>         one record per step key
//! ├── cache/slots/…               the last key per slot, to explain misses
//! ├── layers/<diff-id>/           an unpacked layer, its tree and the like (`snapshot`); derivable from blobs
//! ├── context/<id>                stat index per context directory
//! ├── fetched/                    downloads of ADD and remote contexts
//! ├── mounts/<hash>/<n>/          cache mounts
//! ├── claims/<name>               work in progress: steps, unpacking, downloads
//! ├── lock                        shared to look things up, exclusive to remove (`lease`)
//! └── scratch/<n>/                locked by its owner; unlocked ones are removed when a store is opened
//! ```
//!
//! **Order.** Blob → record → manifest → name. After an interruption or a power cut, what is named is complete (`persist`).
//! Damage to what can be derived is never fatal: it is reported ([`Store::notices`]) and repaired. Blobs are verified while
//! they are read, and a damaged one is removed, so that it is made or fetched again.
//! **Not here.** What a record or a stat index says: `cache`, `context`. What a layer holds: `layer`.

mod archive;
mod blobs;
mod check;
mod directory;
mod error;
mod gc;
mod heal;
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
mod sources;
mod survey;
mod tags;
mod usage;

pub(crate) use crate::base::claim::{Claim, Claiming};
pub(crate) use archive::{Archive, Named, Target};
pub(crate) use blobs::BlobDraft;
pub(crate) use check::{Images, Lacking, Part, ReadOnly, Unusable};
pub(crate) use directory::{Elsewhere, Store};
pub(crate) use error::Error;
pub(crate) use gc::{Policy, Sweep, plan};
pub(crate) use layout::Layout;
pub(crate) use lease::SharedGuard;
pub(crate) use mounts::{MountInstance, MountLock, MountRoot, MountSharing, mount_name};
pub(crate) use names::{CONTAINERD_NAME, Entry, REF_NAME};
pub(crate) use open::FORMAT;
pub(crate) use scratch::Scratch;
pub(crate) use sources::Sources;
pub(crate) use survey::{Step, Survey};

#[cfg(test)]
mod tests;
