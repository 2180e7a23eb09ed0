//! The build cache: keys, records, reasons for misses.
//!
//! **Holds.** A step's result is determined by its [`KeyParts`]. From that one list come the [`StepKey`] and, when the
//! key is not found, the [`Miss`] that says which part changed. [`step_key`] makes the parts of every kind of step.
//! [`CacheBackend`] is the seam for places where records are kept; [`Local`] is the directory in the store.
//! **On disk.** `cache/v1/<kk>/<key>`, one JSON [`Record`] per key, where `kk` is the key's first two digits.
//! `cache/slots/`: what the same place of the same Dockerfile had last time ([`Slots`]).
//! **Order.** A record is written after its blob. A record that cannot be read is reported, and its step runs again.
//! **Not here.** Which steps to look up: `engine`. Files and their digests: `context`, `layer`.

mod backend;
mod error;
mod key;
mod listing;
mod local;
mod record;
mod slots;
pub mod step_key;
mod write;

pub use crate::base::digest::StepKey;
pub use backend::CacheBackend;
pub use error::Error;
pub use key::{KeyParts, Miss, Part};
pub use listing::Listing;
pub use local::Local;
pub use record::Record;
pub use slots::{Slot, Slots};
