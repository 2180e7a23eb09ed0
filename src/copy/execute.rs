//! Writing what was selected into a layer.

use std::path::Path;

use crate::base::sparse::SparseFile;
use crate::context::Matcher;
use crate::layer::{self, LayerWriter, Output};
use crate::plan::Copy;

use super::Error;
use super::ahead::read_ahead;
use super::archive::Spool;
use super::dest::Dest;
use super::item::Item;
use super::place::Placer;
use super::prepare::Prepared;
use super::view::{Data, Origin, View};

/// Writes the files of `prepared`, which must be complete, to `writer` as `copy` says, over `dest`. Files of archives are kept in
/// `scratch` meanwhile.
///
/// Ok: the writer has every changed path with the directories above it, in order. An empty selection changes nothing.
pub(crate) fn execute<W: Output>(
    copy: &Copy,
    prepared: &Prepared<'_>,
    dest: &Dest<'_>,
    scratch: &Path,
    writer: &mut LayerWriter<W>,
) -> Result<(), Error> {
    let mut placer = Placer::new(copy, dest)?;
    let exclude = Matcher::patterns(&copy.exclude)?;
    let mut spools: Vec<Spool> = Vec::new();
    let mut todo = Vec::new();
    let mut files = 0;
    for (number, item) in prepared.items.iter().enumerate() {
        for (at, selected) in item.selected.iter().enumerate() {
            let spool = match item.unpack && selected.meta.is_file() {
                true => Spool::fill(item, selected, &exclude, scratch)?,
                false => None,
            };
            files += usize::from(spool.is_none() && !selected.meta.is_dir());
            todo.push((number, at, spool));
        }
    }
    if files > 1 && !placer.goes_into()? {
        return Err(Error::ManyToOne { count: files, dest: copy.dest.clone() });
    }
    for (number, at, spool) in todo {
        match spool {
            None => placer.place(&prepared.items[number], Origin::new(number, at))?,
            Some(mut spool) => {
                spool.place(&mut placer, spools.len())?;
                spools.push(spool);
            }
        }
    }
    write(placer.view, dest, &prepared.items, &spools, writer)
}

/// Writes the placed files to `writer`.
pub(super) fn write<W: Output>(
    view: View<'_>,
    dest: &Dest<'_>,
    items: &[Item<'_>],
    spools: &[Spool],
    writer: &mut LayerWriter<W>,
) -> Result<(), Error> {
    let (entries, data) = view.finish();
    // Where the layer begins like the previous one, files with the same digests need not be read.
    let taken = writer.take_over(&entries);
    let data = &data[taken..];
    read_ahead(items, data, |mut ahead| {
        for (entry, data) in entries.into_iter().skip(taken).zip(data) {
            match data {
                Data::None | Data::Passed => writer.append_empty(entry)?,
                Data::Tree(origin) => {
                    let item = &items[origin.item()];
                    if let Some(mut bytes) = ahead.take(item, *origin, &entry)? {
                        writer.append(entry, &mut bytes)?;
                    } else {
                        let mut reader = item.tree().open(&item.path(*origin), item.meta(*origin))?;
                        writer.append(entry, &mut reader)?;
                    }
                }
                Data::Dest(path) => {
                    let gone =
                        || layer::Error::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
                    let found = dest.tree.get(path).ok_or_else(gone)?;
                    let file = dest.files.open(&found);
                    let file = file.map_err(|source| layer::Error::Read { path: path.clone(), source })?;
                    let size = if let layer::EntryKind::File { size, .. } = entry.kind { size } else { 0 };
                    writer.append(entry, &mut SparseFile::new(file, size))?;
                }
                Data::Spool { spool, at } => {
                    let size = if let layer::EntryKind::File { size, .. } = entry.kind { size } else { 0 };
                    writer.append(entry, &mut spools[*spool].read(*at, size))?;
                }
            }
        }
        Ok(())
    })
}
