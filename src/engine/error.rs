//! Errors of a build.

use crate::plan::StepId;
use crate::registry::RegistryError;

use super::clues::Clues;
use super::input::Input;

/// Why a build failed. Results stored before the failure stay stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A step failed.
    #[error("{name}: {source}")]
    Step {
        /// The step.
        step: StepId,
        /// Its name in the plan, such as `RUN make`.
        name: String,
        /// Why.
        source: Box<StepError>,
    },
    /// A step must run, and only cached results were asked for: the caller enters a namespace and builds again.
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
    /// The config that the Dockerfile asks for is invalid.
    #[error(transparent)]
    Config(#[from] crate::oci::manifest::InvalidDocument),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
    /// A layer could not be unpacked, or the layers could not be stacked.
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot::Error),
    /// A file of kiln's own could not be read or written.
    #[error(transparent)]
    Fs(#[from] crate::base::fs::FsError),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The command failed.
    #[error("the command {}", ended(*exit))]
    Exit {
        /// How it ended.
        exit: crate::sandbox::Exit,
        /// The end of its output, untrusted bytes.
        tail: Vec<u8>,
        /// Its system calls that cannot work on this host; `None` if they could not be observed.
        noticed: Option<Vec<crate::sandbox::Notice>>,
        /// Facts that may explain the failure.
        clues: Box<Clues>,
    },
    /// The command never ran.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// COPY, ADD or WORKDIR failed.
    #[error(transparent)]
    Copy(Box<crate::copy::Error>),
    /// A mount requires a secret or an agent that was not passed.
    #[error("cannot mount {target}: {input} is required")]
    NotGiven {
        /// The target of the mount.
        target: String,
        /// The secret or agent.
        input: Input,
    },
    /// A base image is missing.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The layer could not be made.
    #[error("cannot pack the layer: {0}")]
    Layer(#[from] crate::layer::Error),
    /// Another error of the build, inside a step.
    #[error(transparent)]
    Build(#[from] Error),
}

/// Why a base image is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// Neither the store nor its registry has it.
    #[error("image {name} {}", not_there(asked.as_deref()))]
    NotFound {
        /// As people write it.
        name: String,
        /// The registry's answer, if it was asked.
        asked: Option<Box<RegistryError>>,
        /// An image in the store with a similar name.
        similar: Option<String>,
    },
    /// The registry failed in another way.
    #[error("image {name}: {source}")]
    Registry {
        /// As people write it.
        name: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// A layer is missing from the store and cannot be fetched.
    #[error("image {name}: a layer is missing from the store: {source}")]
    Lost {
        /// As people write it.
        name: String,
        /// Why it cannot be fetched.
        source: Box<RegistryError>,
    },
    /// The store or a layout failed.
    #[error("image {name}: {source}")]
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
