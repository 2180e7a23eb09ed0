//! Why files could not be copied.

use std::io::ErrorKind;

use crate::base::fs::FsError;
use crate::context;
use crate::layer::{self, RelPath};
use crate::plan::BadMode;

/// What can be fetched.
pub const SCHEMES: &str =
    "what can be fetched begins with http://, https://, git:// or ssh://, or is a repository as USER@HOST:PATH";

/// A COPY, ADD or WORKDIR that could not be carried out. Nothing of it is in any layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source could not be selected or read.
    #[error(transparent)]
    Source(#[from] context::Error),
    /// A directory would have to replace something else (C-8, C-9, A6).
    #[error("cannot copy a directory to {path}: it is {is}")]
    NotADirectory {
        /// In the destination.
        path: RelPath,
        /// `a file`, `a symlink to /usr/bin`.
        is: String,
    },
    /// WORKDIR names something that is no directory, or leads through it (I-7).
    #[error("{path} is {is}, not a directory")]
    WorkdirOccupied {
        /// In the image.
        path: RelPath,
        /// `a file`, `a fifo`.
        is: String,
    },
    /// What has to be a directory because a file goes into it is something else (C-5).
    #[error("cannot copy into {path}/: {path} is {is}")]
    NotInto {
        /// In the destination.
        path: RelPath,
        /// `a file`, `a fifo`.
        is: String,
    },
    /// A file would have to replace a directory (C-9).
    #[error("cannot copy a file to {path}: it is a directory")]
    IsADirectory {
        /// In the destination.
        path: RelPath,
    },
    /// Several files, and one name to give to them (A4).
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
    /// `--chown` or USER names somebody whom the image does not know (A2).
    #[error("unknown {what} {name:?}: {known}")]
    UnknownName {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// Whom it knows.
        known: String,
    },
    /// `--chown` by name with `--link`, which does not see the image (C-19).
    #[error("--chown={text} with --link: names cannot be looked up")]
    LinkedName {
        /// What was given.
        text: String,
    },
    /// `--chmod` cannot be read.
    #[error("{0}")]
    Chmod(BadMode),
    /// An archive could not be unpacked.
    #[error("unpack {name}: {source}")]
    Archive {
        /// The archive.
        name: String,
        /// What is wrong with it.
        source: layer::Error,
    },
    /// A compressed file that ends before it shows whether it is an archive.
    #[error("unpack {name}: the compressed data ends early")]
    CutShort {
        /// The file.
        name: String,
    },
    /// An archive's entry leads nowhere.
    #[error("unpack {name}: {why}")]
    ArchivePath {
        /// The archive.
        name: String,
        /// The entry, and what is wrong with it.
        why: String,
    },
    /// An archive's entry would be a deletion in a layer.
    #[error("unpack {name}: {path}: a name that begins with .wh. means a deletion in a layer")]
    ArchiveMarker {
        /// The archive.
        name: String,
        /// The entry.
        path: RelPath,
    },
    /// An archive links to something that is not there, or to a directory (S-33).
    #[error("unpack: {path} is a hard link to {target}, which is no file of the image")]
    LinkTarget {
        /// The link.
        path: RelPath,
        /// What it is to be another name of.
        target: RelPath,
    },
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// A file of our own.
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

    /// What would help, if we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Source(context::Error::NotFound { excluded: Some(rule), .. }) => Some(rule.to_string()),
            Error::Source(context::Error::NotFound { led: Some(led), .. }) => {
                let (path, to) = &**led;
                let show = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
                Some(format!("{} leads through a symbolic link to {}, which is not there", show(path), show(to)))
            }
            Error::WorkdirOccupied { .. } => Some("choose another directory, or remove it in an earlier RUN".into()),
            Error::NotInto { is, .. } if is == "a file" => {
                Some("the slash at the end asks for a directory; without it the file is replaced".into())
            }
            Error::Source(context::Error::Loop { .. }) => {
                Some("the links lead to each other: let one of them name a file".into())
            }
            Error::Source(context::Error::NotFound { path, .. }) if path.windows(3).any(|w| w == b"://") => {
                Some(SCHEMES.to_owned())
            }
            Error::NotADirectory { is, .. } if is.starts_with("a symlink") => {
                Some("a symlink inside the destination is not followed; copy to the directory it points to".into())
            }
            Error::ManyToOne { dest, .. } => Some(format!("write {dest}/ to copy them into a directory")),
            Error::UnknownName { .. } => {
                Some("create it in an earlier RUN, or give numbers, which need not be known".into())
            }
            Error::ArchiveMarker { .. } => {
                Some("make the archive without it, or take the archive as it is with --unpack=false".into())
            }
            Error::CutShort { .. } => Some("if it is meant to be so: --unpack=false takes it as it is".into()),
            Error::Archive { source: source @ layer::Error::Stream(_), .. } if !source.is_limit() => {
                Some(layer::DAMAGED.into())
            }
            Error::Source(context::Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Some("make it readable for yourself, or leave it out: a line in .dockerignore".into())
            }
            Error::Layer(layer::Error::NotRepresentable { .. }) => {
                Some("leave it out: a line in .dockerignore, or --exclude".into())
            }
            Error::LinkedName { .. } => Some("use numbers with --link".into()),
            _ => None,
        }
    }
}
