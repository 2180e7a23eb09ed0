//! What stands where a COPY, ADD or WORKDIR needs something else.

use std::fmt;

use crate::layer::EntryKind;

/// Something in the destination that cannot be replaced or passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink {
        /// As the link has it.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
}

impl Occupant {
    /// What an entry of the destination is.
    pub(super) fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::Dir => Self::Directory,
            EntryKind::Symlink { target } => Self::Symlink { target: target.clone() },
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Char { .. } | EntryKind::Block { .. } => Self::Device,
            // Merged trees have no whiteouts.
            EntryKind::File { .. } | EntryKind::Hardlink { .. } | EntryKind::Whiteout | EntryKind::Opaque => Self::File,
        }
    }
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("a file"),
            Self::Directory => f.write_str("a directory"),
            Self::Symlink { target } => write!(f, "a symlink to {}", String::from_utf8_lossy(target)),
            Self::Fifo => f.write_str("a fifo"),
            Self::Device => f.write_str("a device"),
        }
    }
}
