//! Keys, records, reasons.
//!
//! **Holds.** A step's result is determined by its [`KeyParts`]; from that one list come the [`StepKey`] and, when the
//! key is not found, the [`Miss`] that says which part changed.
//! **On disk.** `cache/v1/<kk>/<key>`, one JSON [`Record`] per key, where `kk` is the key's first two digits.
//! `cache/slots/<id>`, the key that the same place of the same Dockerfile had last time, and `<id>.files`, the files it
//! read: only for explaining misses
//! and for re-using compressed segments, never for deciding.
//! **Order.** A record is written after its blob. A record that cannot be read as one is said, and its step runs
//! again.
//! **Not here.** Which steps to look up: `engine`. Files and their digests: `context`, `layer`.

mod key;
mod listing;
mod local;
mod record;

pub use crate::base::digest::StepKey;
pub use key::{KeyParts, Miss, Part};
pub use listing::Listing;
pub use local::{Local, Slot};
pub use record::Record;

/// What can go wrong with the cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cache: {0}")]
    Fs(#[from] crate::base::fs::FsError),
}
