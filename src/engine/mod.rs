//! Runs a plan.
//!
//! **Holds.** [`Builder`] looks up every step, executes those that miss, as many at once as the graph allows, and
//! makes config and manifest. [`Images`] resolves names to pinned images. [`Throwaway`] is a root for `kiln run`.
//! [`Builder::explain`] says which steps would run, and why.
//! **Order.** Per step: key, lookup, execution, blob, tree, record. Per build: steps, config, manifest; then the caller
//! tags the image. Files, from the top: `build`, `sweep` and `schedule`, `worker`, `lookup`; the executors `run`,
//! `copy`, `base`; `commit`; `assemble`. Executors do not know the worker.
//! **Not here.** What a step is: `plan`. Keys and records: `cache`. How COPY and ADD choose files: `copy`. How files
//! become a layer: `layer`. How events are displayed: `ui`.

mod assemble;
mod base;
mod base_image;
mod blobs;
mod build;
mod builder;
mod cache_mounts;
mod chain;
mod claims;
mod clues;
mod commit;
mod copied_root;
mod copy;
mod diagnosis;
mod error;
mod event;
mod explain;
mod fetched;
mod foresee;
mod history;
mod images;
mod input;
mod listed;
mod lookup;
mod message;
mod mounts;
mod progress;
mod promise;
mod ready;
mod records;
mod remote;
mod required;
mod root;
mod run;
mod schedule;
mod second_key;
mod settings;
mod shared;
mod shared_mounts;
pub(crate) mod source;
mod sources;
mod storage;
mod sweep;
mod task;
mod throwaway;
mod unpacked;
mod unpacker;
mod used_mounts;
mod verifying_store;
mod worker;

pub(crate) use crate::copy::Note;
pub(crate) use assemble::Outcome;
pub(crate) use base_image::BaseImage;
pub(crate) use builder::{Builder, Context};
pub(crate) use clues::Clues;
pub(crate) use error::{Error, ImageError, StepError};
pub(crate) use event::{Event, Observer};
pub(crate) use explain::{Explanation, Reason, Verdict};
pub(crate) use fetched::Counted;
pub(crate) use images::{ImageSource, Images, Pull};
pub(crate) use input::Input;
pub(crate) use run::hosts;
pub(crate) use settings::Settings;
pub(crate) use storage::{StorageLimit, survey};
pub(crate) use throwaway::Throwaway;
pub(crate) use unpacker::Unpacker;
pub(crate) use verifying_store::VerifyingStore;
