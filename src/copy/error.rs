//! Why files could not be copied.

use crate::base::fs::FsError;
use crate::context;
use crate::fetch::FetchError;
use crate::layer::{self, RelPath};
use crate::plan::BadMode;

use super::occupant::Occupant;

/// A COPY, ADD or WORKDIR that could not be carried out. Nothing of it is in any layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The source could not be selected or read.
    #[error(transparent)]
    Source(#[from] context::Error),
    /// A directory would have to replace something else (C-8, C-9, A6).
    #[error("cannot copy a directory to {path}: it is {occupant}")]
    NotADirectory {
        /// In the destination.
        path: RelPath,
        /// What is there.
        occupant: Occupant,
    },
    /// WORKDIR names something that is not a directory, or leads through it (I-7).
    #[error("{path} is {occupant}, not a directory")]
    WorkdirOccupied {
        /// In the image.
        path: RelPath,
        /// What is there.
        occupant: Occupant,
    },
    /// A file goes into something that is not a directory (C-5).
    #[error("cannot copy into {path}/: {path} is {occupant}")]
    NotInto {
        /// In the destination.
        path: RelPath,
        /// What is there.
        occupant: Occupant,
    },
    /// A file would have to replace a directory (C-9).
    #[error("cannot copy a file to {path}: it is a directory")]
    IsADirectory {
        /// In the destination.
        path: RelPath,
    },
    /// Several files would get one name (A4).
    #[error("cannot copy {count} files to {dest}: it is not a directory")]
    ManyToOne {
        /// How many files.
        count: usize,
        /// As written.
        dest: String,
    },
    /// The destination leads nowhere.
    #[error("destination {0}")]
    Destination(#[from] layer::ResolveError),
    /// A path that no layer can hold.
    #[error(transparent)]
    Path(#[from] layer::BadPath),
    /// `--chown` or USER cannot be read.
    #[error("owner {text:?}: {why}")]
    Owner {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// `--chown` or USER names a user or group that the image does not have (A2).
    #[error("unknown {what} {name:?}: {known}")]
    UnknownName {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// Which there are.
        known: String,
    },
    /// An owner by name for a linked layer, which does not see the image (C-19).
    #[error("cannot look up owner {text:?} for a linked layer")]
    LinkedName {
        /// What was given.
        text: String,
    },
    /// `--chmod` cannot be read.
    #[error("{0}")]
    Chmod(BadMode),
    /// An archive could not be unpacked.
    #[error("cannot unpack {name}: {source}")]
    Archive {
        /// The archive.
        name: String,
        /// What is wrong with it.
        source: layer::Error,
    },
    /// A compressed file that ends before it shows whether it is an archive.
    #[error("cannot unpack {name}: the compressed data ends early")]
    CutShort {
        /// The file.
        name: String,
    },
    /// An archive's entry leads nowhere.
    #[error("cannot unpack {name}: {why}")]
    ArchivePath {
        /// The archive.
        name: String,
        /// The entry, and what is wrong with it.
        why: String,
    },
    /// An archive's entry would be a deletion in a layer.
    #[error("cannot unpack {name}: {path}: a name that begins with .wh. means a deletion in a layer")]
    ArchiveMarker {
        /// The archive.
        name: String,
        /// The entry.
        path: RelPath,
    },
    /// An archive's hard link does not name a file (S-33).
    #[error("cannot unpack {path}: it is a hard link to {target}, which is not a file of the image")]
    LinkTarget {
        /// The link.
        path: RelPath,
        /// What it links to.
        target: RelPath,
    },
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// Reading or writing a file of kiln's own failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl From<BadMode> for Error {
    fn from(bad: BadMode) -> Self {
        Error::Chmod(bad)
    }
}

impl Error {
    /// The same as an error of the archive `name`.
    pub(super) fn in_archive(self, name: &str) -> Self {
        let why = match self {
            Error::Destination(e) => e.to_string(),
            Error::Path(e) => e.to_string(),
            other => return other,
        };
        Error::ArchivePath { name: name.to_owned(), why }
    }
}
