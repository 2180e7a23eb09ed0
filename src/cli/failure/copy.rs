//! Hints for COPY, ADD and WORKDIR.

use std::io::ErrorKind;

use crate::context;
use crate::copy::{Error, Occupant};
use crate::layer;

/// The hint for an archive that cannot be read to its end.
pub(super) const DAMAGED: &str = "fetch or create the archive again: it is damaged or cut short";

/// The hint for a URL that ADD cannot fetch.
pub(in crate::cli) const SCHEMES: &str =
    "use a URL that begins with http://, https://, git:// or ssh://, or a repository as USER@HOST:PATH";

/// The hint, if there is one.
pub(in crate::cli) fn copy_hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::Source(error) => return of_source(error),
        Error::Fetch(error) => return super::fetch::fetch_hint(error),
        Error::ManyToOne { dest, .. } => return Some(format!("write {dest}/ to copy them into a directory")),
        Error::WorkdirOccupied { .. } => "choose another directory, or remove it in an earlier RUN",
        Error::NotInto { occupant: Occupant::File, .. } => "remove the slash at the end to replace the file",
        Error::NotADirectory { occupant: Occupant::Symlink { .. }, .. } => {
            "copy to the directory that the symlink points to: symlinks inside the destination are not followed"
        }
        Error::UnknownName { .. } => "create it in an earlier RUN, or use a numeric id",
        Error::ArchiveMarker { .. } => {
            "remove the entry from the archive, or copy the archive as it is with --unpack=false"
        }
        Error::CutShort { .. } => "replace the file, or copy it as it is with --unpack=false",
        Error::Archive { source: source @ layer::Error::Stream(_), .. } if !source.is_limit() => DAMAGED,
        Error::Layer(layer::Error::NotRepresentable { .. }) => "exclude it in .dockerignore or with --exclude",
        Error::LinkedName { .. } => "use a numeric id with --link",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_source(error: &context::Error) -> Option<String> {
    match error {
        context::Error::NotFound { excluded: Some(rule), .. } => Some(format!("change the ignore rule: it is {rule}")),
        context::Error::NotFound { led: Some(led), .. } => {
            let (path, to) = &**led;
            let (path, to) = (String::from_utf8_lossy(path), String::from_utf8_lossy(to));
            Some(format!("change the symlink: {path} leads through a symlink to {to}, which does not exist"))
        }
        context::Error::NotFound { path, .. } if path.windows(3).any(|w| w == b"://") => Some(SCHEMES.to_owned()),
        context::Error::Loop { .. } => Some("make one of the symlinks point to a file".to_owned()),
        context::Error::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Some("make it readable, or exclude it in .dockerignore".to_owned())
        }
        _ => None,
    }
}
