//! Making the unpacked files of one layer into those of another.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::base::sparse::SparseRead;

use super::apply::{Form, write_file};
use super::decompress::decompress;
use super::delta::Delta;
use super::entry::{Entry, EntryKind, RelPath};
use super::error::Error;
use super::fill::Filler;
use super::limits::Limits;
use super::tar_read::{Dialect, TarReader};

/// Carries out `delta` in `dest`, where its base is unpacked in `form`. `part` has at least the files of `delta`, compressed or
/// not; it is read until all are found.
///
/// Ok(true): `dest` is what unpacking the layer would make; each file has the digest that `delta` says. Otherwise `dest` is
/// something in between, and the same can be tried with a larger part; Ok(false): `part` does not have all files.
pub(crate) fn patch(
    delta: &Delta,
    part: impl SparseRead + Send,
    dest: &Path,
    form: Form,
    limits: &Limits,
) -> Result<bool, Error> {
    let mut filler = Filler::new(dest, form.attributes())?;
    for path in &delta.gone {
        filler.remove(path)?;
    }
    let (mut links, mut files) = (Vec::new(), BTreeMap::new());
    for entry in &delta.changed {
        match &entry.kind {
            EntryKind::File { .. } => drop(files.insert(&entry.path, entry)),
            EntryKind::Hardlink { .. } => links.push(entry),
            EntryKind::Whiteout => {
                filler.remove(&entry.path)?;
                filler.whiteout(&entry.path)?;
            }
            kind => filler.put(&entry.path, kind, &entry.meta, *kind != EntryKind::Dir)?,
        }
    }
    if !write_files(&mut filler, files, part, limits)? {
        return Ok(false);
    }
    for link in links {
        filler.put(&link.path, &link.kind, &link.meta, true)?;
    }
    let mut dirs: BTreeMap<&RelPath, _> = delta.dirs.iter().map(|(path, meta)| (path, meta.as_ref())).collect();
    let changed = delta.changed.iter().filter(|entry| entry.kind == EntryKind::Dir);
    dirs.extend(changed.map(|entry| (&entry.path, Some(&entry.meta))));
    for (path, meta) in dirs.iter().rev().filter(|(path, meta)| !path.is_root() || meta.is_some()) {
        filler.seal(path, *meta)?;
    }
    Ok(true)
}

/// Writes `files` as they are found in `part`. Ok(true): all were, with the right contents.
fn write_files(
    filler: &mut Filler,
    mut files: BTreeMap<&RelPath, &Entry>,
    part: impl SparseRead + Send,
    limits: &Limits,
) -> Result<bool, Error> {
    if files.is_empty() {
        return Ok(true);
    }
    let (_, plain) = decompress(part, limits).map_err(Error::Stream)?;
    let mut tar = TarReader::new(plain, Dialect::Layer, limits.clone());
    while let Some(found) = tar.next_entry()? {
        let EntryKind::File { .. } = found.kind else { continue };
        let Some(entry) = files.remove(&found.path) else { continue };
        let write = |file: &mut File| write_file(file, &mut tar, &entry.path);
        let digest = filler.file(&entry.path, &entry.meta, true, write)?;
        if !matches!(entry.kind, EntryKind::File { content: Some(wanted), .. } if wanted == digest) {
            return Ok(false);
        }
        if files.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
