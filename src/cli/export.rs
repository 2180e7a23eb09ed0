//! `kiln export`: the files of an image as a tar.

use std::path::Path;

use crate::export::Rootfs;
use crate::oci::platform::Platform;
use crate::store::Target;

use super::args::ExportArgs;
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;
use super::store::check_platform;

/// Writes what a container of the image would see when it starts. Ok: the tar is complete; a file appears only then. A
/// terminal is refused (O-64).
pub(super) fn run(args: &ExportArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let store = session.store()?;
    session.share(&store)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let (_, image) = store.image(&args.image, &platform)?;
    check_platform(&args.image, &image, args.platform.as_ref())?;
    match args.output.as_deref() {
        Some(path) if path != Path::new("-") => {
            let target = Target::open(path)?;
            Rootfs::open(&store, &image.descriptor)?.write_tar(target, path)?.finish(path, 0o644)?;
        }
        _ if session.console.out_is_terminal() => {
            return Err(Failure::usage("cannot write an archive to a terminal")
                .hint("name a file with -o FILE, or redirect the output"));
        }
        _ => {
            Rootfs::open(&store, &image.descriptor)?.write_tar(std::io::stdout(), Path::new("standard output"))?;
        }
    }
    Ok(SUCCESS)
}
