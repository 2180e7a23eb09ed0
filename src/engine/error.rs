//! Why there is no image.

use crate::plan::StepId;

use super::images::ImageError;

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
    /// Somebody cancelled the build.
    #[error("cancelled")]
    Cancelled,
    /// The build took longer than it was given.
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
    /// The command ran and said no.
    #[error("the command {}", ended(*exit))]
    Exit {
        /// How it ended.
        exit: crate::sandbox::Exit,
        /// The last of what it wrote, untrusted bytes.
        tail: Vec<u8>,
        /// What it tried that cannot work here; `None` where nobody could take note.
        noticed: Option<Vec<crate::sandbox::Notice>>,
        /// What may explain it.
        clues: Box<super::Clues>,
    },
    /// The command never ran.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(Box<crate::copy::Error>),
    /// A mount could not be prepared.
    #[error("mount {target}: {why}")]
    Mount {
        /// Where it was to appear.
        target: String,
        /// What is wrong with it.
        why: String,
        /// What would help.
        hint: Option<String>,
    },
    /// A base image could not be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The layer could not be made.
    #[error("pack the layer: {0}")]
    Layer(#[from] crate::layer::Error),
    /// Anything of [`Error`] that happened inside a step.
    #[error(transparent)]
    Build(#[from] Error),
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
