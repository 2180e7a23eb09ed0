//! Errors of a build.

use crate::plan::StepId;
use crate::registry::RegistryError;

use super::clues::Clues;
use super::input::Input;

/// A build that did not succeed. What was stored before stays stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed.
    #[error("{name}: {source}")]
    Step {
        /// Which.
        step: StepId,
        /// `RUN make`, as in the plan.
        name: String,
        /// Why.
        source: Box<StepError>,
    },
    /// A step must run, and the caller asked only for what is cached: enter a namespace and build again.
    #[error("a step must run")]
    Cold,
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The build reached its time limit.
    #[error("the build took longer than {0:?}")]
    TimedOut(std::time::Duration),
    /// Another step's failure stopped this one; that failure is the one reported.
    #[error("stopped")]
    Stopped,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The image's config cannot be what the Dockerfile says.
    #[error(transparent)]
    Config(#[from] crate::oci::manifest::InvalidDocument),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
    /// Layers could not be unpacked or stacked.
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot::Error),
    /// Reading or writing files of our own failed.
    #[error(transparent)]
    Fs(#[from] crate::base::fs::FsError),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command failed.
    #[error("the command {}", ended(*exit))]
    Exit {
        /// How it ended.
        exit: crate::sandbox::Exit,
        /// The last of what it wrote, untrusted bytes.
        tail: Vec<u8>,
        /// Calls of it that cannot work here; `None` where they could not be observed.
        noticed: Option<Vec<crate::sandbox::Notice>>,
        /// What may explain the failure.
        clues: Box<Clues>,
    },
    /// The command never ran.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(Box<crate::copy::Error>),
    /// A mount requires something that was not given.
    #[error("mount {target}: {input} is required and was not given")]
    NotGiven {
        /// Where it was to appear.
        target: String,
        /// What.
        input: Input,
    },
    /// A base image is missing.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The layer could not be made.
    #[error("cannot pack the layer: {0}")]
    Layer(#[from] crate::layer::Error),
    /// Anything of [`Error`] that happened inside a step.
    #[error(transparent)]
    Build(#[from] Error),
}

/// Why a base image is missing.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither the store nor its registry has it.
    #[error("base image {name} {}", not_there(asked.as_deref()))]
    NotFound {
        /// As people write it.
        name: String,
        /// What the registry said, if it was asked.
        asked: Option<Box<RegistryError>>,
        /// An image of ours that reads much like it.
        similar: Option<String>,
    },
    /// The registry failed otherwise.
    #[error("base image {name}: {source}")]
    Registry {
        /// As people write it.
        name: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// The store has it, but not whole, and what is missing cannot be fetched.
    #[error("base image {name}: the store has lost a layer of it: {source}")]
    Lost {
        /// As people write it.
        name: String,
        /// Why it cannot be fetched.
        source: Box<RegistryError>,
    },
    /// The store or a layout failed.
    #[error("base image {name}: {source}")]
    Store {
        /// As people write it.
        name: String,
        /// Why.
        source: Box<crate::store::Error>,
    },
}

/// Where an image was looked for.
fn not_there(asked: Option<&RegistryError>) -> String {
    match asked {
        Some(RegistryError::NotFound { host, .. }) => {
            format!("not found: neither the store nor {host} has it")
        }
        Some(error) => format!("is not in the store; {error}"),
        None => "is not in the store".to_owned(),
    }
}

impl From<crate::copy::Error> for StepError {
    fn from(e: crate::copy::Error) -> Self {
        StepError::Copy(Box::new(e))
    }
}

impl From<crate::store::Error> for StepError {
    fn from(e: crate::store::Error) -> Self {
        StepError::Build(e.into())
    }
}

impl From<crate::cache::Error> for StepError {
    fn from(e: crate::cache::Error) -> Self {
        StepError::Build(e.into())
    }
}

impl From<crate::snapshot::Error> for StepError {
    fn from(e: crate::snapshot::Error) -> Self {
        StepError::Build(e.into())
    }
}

impl From<crate::base::fs::FsError> for StepError {
    fn from(e: crate::base::fs::FsError) -> Self {
        StepError::Build(e.into())
    }
}

fn ended(exit: crate::sandbox::Exit) -> String {
    match exit {
        crate::sandbox::Exit::Code(code) => format!("exited with status {code}"),
        crate::sandbox::Exit::Signal(signal) => format!("was killed by signal {signal} (status {})", exit.code()),
    }
}
