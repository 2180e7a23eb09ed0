//! `kiln save`: saves images to an archive.

use std::path::Path;

use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;
use crate::store::{Archive, Named};

use super::args::{ArchiveFormat, SaveArgs};
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;

/// Writes images with all their names (or the given ones) to a file or standard output. Ok: the archive is complete; a file
/// appears only then. A terminal is refused (O-64).
pub(super) fn run(args: &SaveArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let store = session.store()?;
    session.share(&store)?;
    let mut found: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
    for text in &args.images {
        let image = store.find(text)?;
        let names = match image.name {
            Some(name) => vec![name],
            None => store.names_of(image.target.digest)?,
        };
        match found.iter_mut().find(|(target, _)| target.digest == image.target.digest) {
            Some((_, known)) => known.extend(names),
            None => found.push((image.target, names)),
        }
    }
    for (_, names) in &mut found {
        names.sort();
        names.dedup();
    }
    let images: Vec<Named<'_>> = found.iter().map(|(target, names)| Named { target, names }).collect();
    let archive = match args.format {
        ArchiveFormat::Oci => Archive::Oci,
        ArchiveFormat::Docker => Archive::Docker,
    };
    match args.output.as_deref() {
        Some(path) if path != Path::new("-") => store.export_file(&images, archive, path)?,
        _ if session.console.out_is_terminal() => {
            return Err(Failure::usage("cannot write an archive to a terminal")
                .hint("name a file with -o FILE, or redirect the output"));
        }
        _ => store.export(&images, archive, Path::new("standard output"), session.console.raw())?,
    }
    Ok(SUCCESS)
}
