//! Errors of source trees.

use std::fmt;
use std::io;

use crate::base::fs::FsError;

/// Why files could not be selected, digested or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such source; the Dockerfile or the context is wrong (C-2).
    #[error("{} not found", Shown(path))]
    NotFound {
        /// As written in the instruction.
        path: Vec<u8>,
        /// The ignore rule that hides it, if one does.
        excluded: Option<Excluded>,
        /// The path that is a link or leads through one, and where it led to.
        led: Option<Box<(Vec<u8>, Vec<u8>)>>,
    },
    /// Not a pattern Go's `filepath.Match` accepts (C-3).
    #[error("bad pattern {}: {why}", Shown(pattern))]
    BadPattern {
        /// As written.
        pattern: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An ignore file has an invalid pattern (G-8).
    #[error("{file}:{line}: bad pattern {}: {why}", Shown(pattern))]
    BadIgnore {
        /// The ignore file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The pattern on it.
        pattern: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Symlinks that lead to each other (C-10).
    #[error("{}: too many levels of symbolic links", Shown(path))]
    Loop {
        /// The path that was being resolved.
        path: Vec<u8>,
    },
    /// A file was not the same before and after it was read (S-93).
    #[error("{} changed while it was being read", Shown(path))]
    Changed {
        /// The file.
        path: Vec<u8>,
    },
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", Shown(path))]
    Io {
        /// The operation.
        operation: &'static str,
        /// The path in the tree.
        path: Vec<u8>,
        /// The cause.
        source: io::Error,
    },
    /// An error on the stat index or the context directory itself.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Error {
    /// An error of `operation` on `path` of the tree.
    pub fn io(operation: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.to_vec(), source: source.into() }
    }
}

/// The line of an ignore file that hides a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// The ignore file, as the user would name it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The pattern on it.
    pub pattern: String,
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "excluded by {}:{} (`{}`)", self.file, self.line, self.pattern)
    }
}

/// A path of a tree for a message: as text, with what is not UTF-8 replaced; the root is `/`.
pub(crate) struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b"" => f.write_str("/"),
            path => f.write_str(&String::from_utf8_lossy(path)),
        }
    }
}
