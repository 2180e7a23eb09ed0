//! Why a command never ran.

use std::io;

use super::failure::{Fault, SetupFailure, Stage};
use super::hint::Hint;

/// The command never ran.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of the setup failed.
    #[error("{0}")]
    Setup(SetupFailure),
    /// The sandbox process could not be started.
    #[error("cannot {action}: {source}")]
    Start {
        /// The action that failed.
        action: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The init process died in this stage without reporting a failure.
    #[error("cannot set up the sandbox: its init process was killed in stage {stage}")]
    Died {
        /// The last stage it reported.
        stage: Stage,
    },
    /// The run was cancelled; its processes are dead.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The host lacks something; otherwise the request is wrong.
    pub fn is_host(&self) -> bool {
        match self {
            Error::Setup(failure) => failure.fault == Fault::Host,
            Error::Start { .. } | Error::Died { .. } => true,
            Error::Cancelled => false,
        }
    }

    /// A remedy, if known.
    pub fn hint(&self) -> Option<&Hint> {
        match self {
            Error::Setup(failure) => failure.hint.as_ref(),
            _ => None,
        }
    }

    /// The exit status that a shell would report: 127, 126 or 125.
    pub fn code(&self) -> u8 {
        match self {
            Error::Setup(failure) => failure.code,
            Error::Cancelled => 130,
            _ => 125,
        }
    }
}
