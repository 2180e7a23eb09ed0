//! `kiln save`: saves an image to an archive.

use std::path::Path;

use crate::oci::reference::Reference;
use crate::store::Archive;

use super::args::{ArchiveFormat, SaveArgs};
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;

/// Writes an image with all its names (or the given one) to a file or standard output. Ok: the archive is complete; a file
/// appears only then. A terminal is refused (O-64).
pub(super) fn run(args: &SaveArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let store = session.store()?;
    session.share(&store)?;
    let found = store.find(&args.image)?;
    let names: Vec<Reference> = match found.name {
        Some(name) => vec![name],
        None => {
            let entries = store.entries()?.into_iter();
            entries.filter(|e| e.target.digest == found.target.digest).filter_map(|e| e.name).collect()
        }
    };
    let archive = match args.format {
        ArchiveFormat::Oci => Archive::Oci,
        ArchiveFormat::Docker => Archive::Docker,
    };
    match args.output.as_deref() {
        Some(path) if path != Path::new("-") => store.export_file(&found.target, &names, archive, path)?,
        _ if session.console.out_is_terminal() => {
            return Err(Failure::usage("cannot write an archive to a terminal")
                .hint("name a file with -o FILE, or redirect the output"));
        }
        _ => store.export(&found.target, &names, archive, Path::new("standard output"), session.console.raw())?,
    }
    Ok(SUCCESS)
}
