//! Why a command never ran.

use std::io;

use super::message::{Blame, Failure, Stage};

/// The command never ran.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of the setup failed inside; the failure names it, with errno and path.
    #[error("{0}")]
    Setup(Failure),
    /// The init process could not be started.
    #[error("{what}: {source}")]
    Start {
        /// What was being done.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The init process died without a word while it was in this stage.
    #[error("sandbox setup was killed while in stage {stage}")]
    Died {
        /// The last stage it reported.
        stage: Stage,
    },
    /// The flag was set before or while the command ran; its process tree is gone.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The host lacks something (as opposed to the request being wrong).
    pub fn is_host(&self) -> bool {
        match self {
            Error::Setup(failure) => failure.blame == Blame::Host,
            Error::Start { .. } | Error::Died { .. } => true,
            Error::Cancelled => false,
        }
    }

    /// What would help, if known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Setup(failure) => failure.hint.as_deref(),
            _ => None,
        }
    }

    /// What a shell would report instead of an exit status: 127, 126 or 125.
    pub fn code(&self) -> u8 {
        match self {
            Error::Setup(failure) => failure.code,
            Error::Cancelled => 130,
            _ => 125,
        }
    }
}
