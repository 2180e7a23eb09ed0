//! What a COPY, ADD or WORKDIR reports without failing.

use std::fmt;

/// Something to report that is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A pattern matched nothing, so nothing was copied for it (C-2, A5).
    NoMatch {
        /// As written.
        source: String,
    },
    /// Sockets became empty files: no layer can hold one (C-11, N-26).
    Sockets {
        /// The first of them.
        path: String,
        /// How many there are.
        count: usize,
    },
    /// The image does not have the user of the stage; root owns the directory.
    OwnerUnknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// The directory.
        dir: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::NoMatch { source } => write!(f, "nothing matches {source}; nothing was copied for it"),
            Note::Sockets { path, count: 1 } => {
                write!(f, "{path} is a socket, which no layer can hold; it becomes an empty file")
            }
            Note::Sockets { path, count } => {
                write!(f, "{count} sockets, which no layer can hold, become empty files, among them {path}")
            }
            Note::OwnerUnknown { what, name, dir } => {
                write!(f, "the image has no {what} {name}; {dir} belongs to root")
            }
        }
    }
}
