//! WORKDIR: creates the directory if it is missing (I-7).

use crate::layer::{LayerWriter, Output, ResolveError};
use crate::plan::Workdir;

use super::Error;
use super::dest::Dest;
use super::execute::write;
use super::note::Note;
use super::occupant::Occupant;
use super::owner;
use super::view::{NewDir, View};

/// Writes the directories of `workdir` that `dest` lacks to `writer`: mode 0755, owned by its user, at the epoch. Symlinks are
/// followed inside the root. An existing directory is left as it is.
///
/// A user that the image does not have is not an error here (I-6) but a note; then root owns the directories.
pub(crate) fn workdir<W: Output>(
    workdir: &Workdir,
    dest: &Dest<'_>,
    writer: &mut LayerWriter<W>,
) -> Result<Vec<Note>, Error> {
    let mut view = View::new(dest.tree);
    let path = view.resolve(workdir.path.as_bytes()).map_err(|error| occupied(&view, error))?;
    let mut notes = Vec::new();
    if !view.is_dir(&path) {
        let owner = match workdir.user.as_str() {
            "" => Default::default(),
            user => owner::resolve(user, dest).or_else(|error| match error {
                Error::UnknownName { what, name, .. } => {
                    notes.push(Note::OwnerUnknown { what, name, dir: workdir.path.clone() });
                    Ok(Default::default())
                }
                other => Err(other),
            })?,
        };
        view.ensure_dir(&path, NewDir::of(owner)).map_err(|error| occupied(&view, error))?;
    }
    write(view, dest, &[], &[], writer)?;
    Ok(notes)
}

/// Errors of WORKDIR do not speak of copying.
fn occupied(view: &View<'_>, error: Error) -> Error {
    match error {
        Error::NotADirectory { path, occupant } => Error::WorkdirOccupied { path, occupant },
        Error::Destination(ResolveError::NotADirectory(path)) => match view.get(&path) {
            Some((kind, _)) => Error::WorkdirOccupied { occupant: Occupant::of(kind), path },
            None => ResolveError::NotADirectory(path).into(),
        },
        other => other,
    }
}
