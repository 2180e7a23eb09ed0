//! Why a command cannot have a device.

use std::path::PathBuf;

use crate::plan::{DeviceName, StepId};

/// Why a command cannot have a device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is required, and no file describes it.
    #[error("this host has no device {device}: no file in {dirs} describes it")]
    Missing {
        /// As asked for.
        device: String,
        /// Where files were looked for.
        dirs: String,
        /// Files that could not be read, with the reason; one of them may describe it.
        unread: Vec<String>,
    },
    /// It was not granted.
    #[error("RUN --device={asked} is not allowed in this build")]
    Forbidden {
        /// As asked for.
        asked: String,
        /// The device that this selects.
        device: String,
    },
    /// Two files of one directory describe it.
    #[error("device {device} is described twice: by {} and {}", files.0.display(), files.1.display())]
    Ambiguous {
        /// Which.
        device: String,
        /// The files.
        files: (PathBuf, PathBuf),
    },
    /// Its file asks for something that kiln does not support.
    #[error("device {device}, described by {}: {why}", file.display())]
    Unusable {
        /// Which.
        device: String,
        /// The file.
        file: PathBuf,
        /// What it asks for.
        why: String,
    },
}

/// A device that a step cannot have.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The RUN.
    pub step: StepId,
    /// The device, as the Dockerfile names it.
    pub device: DeviceName,
    /// Why.
    pub why: Refusal,
}
