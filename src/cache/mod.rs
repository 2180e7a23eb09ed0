//! The build cache: keys, records, reasons for misses.
//!
//! **Holds.** [`KeyParts`] lists everything that determines a step's result. Its hash is the [`StepKey`]; comparing it
//! with the list of the previous build gives the [`Miss`] that names what changed. [`step_key`] makes the parts of
//! every kind of step. [`Local`] has the records of the store, [`remote`] those of caches that machines share.
//! **On disk.** `cache/v1/<kk>/<key>`, one JSON [`Record`] per key, where `kk` is the key's first two digits.
//! `cache/slots/`: the key and files of each instruction in the previous build ([`Slots`]).
//! **Order.** A record is written after its blob. A record that cannot be read is reported, and its step runs again.
//! **Not here.** Which steps to look up: `engine`. Files and their digests: `context`, `layer`.

mod error;
mod key;
mod listing;
mod local;
mod record;
pub(crate) mod remote;
mod slots;
pub(crate) mod step_key;
mod write;

pub(crate) use crate::base::digest::StepKey;
pub(crate) use error::Error;
pub(crate) use key::{KeyParts, Miss};
pub(crate) use listing::{AttributeChange, Difference, FileChanges, FileFacts, Listing};
pub(crate) use local::Local;
pub(crate) use record::{Made, Record};
pub(crate) use slots::{Slot, Slots};
