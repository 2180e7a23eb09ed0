//! Errors of layers.

use std::io;

use super::entry::{BadPath, RelPath};

/// Why a layer could not be read, written, unpacked or compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the layer could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file, as the layer names it.
        path: RelPath,
        /// The system's answer.
        source: io::Error,
    },
    /// The size of a file changed since it was listed (S-93).
    #[error("{path} changed while it was read: want {promised} bytes, {}", if *got < *promised { format!("got {got}") } else { "there are more".to_owned() })]
    Changed {
        /// Which file.
        path: RelPath,
        /// Its size when it was looked at.
        promised: u64,
        /// What could be read.
        got: u64,
    },
    /// A layer cannot hold this.
    #[error("{path}: {reason}")]
    NotRepresentable {
        /// Which entry.
        path: RelPath,
        /// Why not.
        reason: &'static str,
    },
    /// The layer would be longer than one that can be read again (S-39).
    #[error("{path} makes the layer larger than {} GiB, the most that one layer can hold", limit >> 30)]
    TooLong {
        /// Which entry.
        path: RelPath,
        /// How many bytes a layer may have.
        limit: u64,
    },
    /// The layer's bytes could not be written out.
    #[error("cannot write the layer: {0}")]
    Write(#[source] io::Error),
    /// The archive could not be read: the source failed, or the compressed stream is damaged or cut short.
    #[error("cannot read the archive: {0}")]
    Stream(#[source] io::Error),
    /// The archive is not a tar, or breaks its rules.
    #[error("archive entry {entry}: {reason}")]
    Malformed {
        /// Counted from 1.
        entry: u64,
        /// Which rule.
        reason: String,
    },
    /// The archive is larger than allowed (S-39).
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// An archive entry cannot be put where it wants to be.
    #[error("archive entry {path}: {reason}")]
    Entry {
        /// Which entry.
        path: RelPath,
        /// Why not.
        reason: String,
    },
    /// A path in an archive that leaves its root.
    #[error("archive entry {entry}: {source}")]
    Path {
        /// Counted from 1.
        entry: u64,
        /// What is wrong with it.
        source: BadPath,
    },
    /// The blob is another layer.
    #[error("layer has diff id {got}, want {want}")]
    DiffId {
        /// What the image config promises.
        want: crate::base::digest::DiffId,
        /// What the bytes are.
        got: crate::base::digest::DiffId,
    },
    /// A system call on a directory being filled or compared.
    #[error("cannot {operation} {path}: {source}")]
    System {
        /// The verb.
        operation: &'static str,
        /// Its operand inside the root.
        path: RelPath,
        /// The system's answer.
        source: io::Error,
    },
    /// The writable directory of a step holds something that cannot be turned into a layer.
    #[error("changes at {path}: {reason}")]
    Upper {
        /// Where.
        path: RelPath,
        /// What.
        reason: &'static str,
    },
}

/// The source of the `io::Error` that stops a decompression bomb.
#[derive(Debug, thiserror::Error)]
#[error("decompresses to more than {limit} {what}")]
pub(super) struct TooMuch {
    pub(super) what: &'static str,
    pub(super) limit: u64,
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Error::Stream(source)
    }
}

impl Error {
    /// A system call on `path` of the directory being filled or compared failed.
    pub(super) fn system(operation: &'static str, path: &RelPath, source: io::Error) -> Self {
        Self::System { operation, path: path.clone(), source }
    }

    /// Whether the archive was rejected for its size.
    pub fn is_limit(&self) -> bool {
        match self {
            Error::Limit { .. } => true,
            Error::Stream(e) => e.get_ref().is_some_and(|inner| inner.is::<TooMuch>()),
            _ => false,
        }
    }
}
