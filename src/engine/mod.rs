//! Runs a plan.
//!
//! **Holds.** [`Builder`] looks every step up, runs what missed as wide as the graph allows, and makes config and
//! manifest of the results. [`Images`] turns names into pinned images.
//! **Order.** Per step: key → lookup → execute → blob → tree → record. Per build: steps → config → manifest; naming the
//! image is the caller's last act.
//! **Not here.** What a step is: `plan`. How COPY and ADD choose files: `copy`. How files become a layer: `layer`. Words for
//! people: `ui`.

mod arriving;
mod base;
mod builder;
mod chain;
mod clues;
mod copied;
mod error;
mod event;
mod fetched;
mod files;
mod images;
mod keys;
mod mounts;
mod outcome;
mod pack;
mod progress;
mod promise;
mod required;
mod reuse;
mod run;
mod schedule;
mod settings;
pub mod source;
mod throwaway;
mod worker;

pub use arriving::Arriving;
pub use builder::{Builder, Context, OnFailure};
pub use clues::Clues;
pub use error::{Error, StepError};
pub use event::{Event, Observer};
pub use fetched::Came;
pub use images::{BaseImage, ImageError, ImageSource, Images, Pull};
pub use outcome::Outcome;
pub use run::hosts;
pub use settings::Settings;
pub use throwaway::Throwaway;
