//! What is done with a built image.

use std::path::Path;

use crate::base::fs::FsError;
use crate::base::publish;
use crate::build::Outcome;
use crate::cli::Session;
use crate::cli::args::Progress;
use crate::cli::failure::Failure;
use crate::cli::request::{BuildRequest, Destination, Form};
use crate::store::{Archive, Store};

/// A file that says which image was built must not speak of an earlier one if this build fails (O-54).
pub(super) fn forget_old(request: &BuildRequest) -> Result<(), Failure> {
    for path in [&request.iidfile, &request.metadata_file].into_iter().flatten() {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(FsError::new("remove", path, e).into()),
            _ => {}
        }
    }
    Ok(())
}

/// Writes outputs, then names, then the files that say so. Ok: all of it is done.
pub(super) fn deliver(
    store: &Store,
    request: &BuildRequest,
    outcome: &Outcome,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    for output in &request.outputs {
        match (&output.form, &output.dest) {
            (Form::OciArchive, Destination::Path(path)) => {
                store.export_file(&outcome.manifest, &request.tags, Archive::Oci, path)?;
            }
            (Form::OciArchive, Destination::Stdout) => {
                if session.console.out_is_terminal() {
                    return Err(Failure::usage("an archive is not for a terminal").hint("name a file with dest=FILE"));
                }
                let name = Path::new("standard output");
                store.export(&outcome.manifest, &request.tags, Archive::Oci, name, session.console.raw())?;
            }
            (Form::OciLayout, Destination::Path(dir)) => {
                store.export_layout(&outcome.manifest, &request.tags, dir)?;
            }
            (Form::OciLayout, Destination::Stdout) => unreachable!("refused when the options were read"),
        }
    }
    store.tag(&request.tags, &outcome.manifest)?;
    if let Some(path) = &request.iidfile {
        publish::atomic(path, outcome.config.to_string().as_bytes(), 0o644)?;
    }
    if let Some(path) = &request.metadata_file {
        publish::atomic(path, metadata(request, outcome).as_bytes(), 0o644)?;
    }
    let names: Vec<String> = request.tags.iter().map(|name| name.familiar()).collect();
    match request.progress {
        // O-71: the image id and nothing else.
        Progress::Quiet => session.console.data(format_args!("{}", outcome.config))?,
        Progress::Json => {
            let (image, manifest) = (outcome.config.to_string(), outcome.manifest.digest.to_string());
            let event = serde_json::json!({ "event": "built", "image": image, "manifest": manifest, "names": names });
            session.console.message(&event.to_string());
        }
        Progress::Auto | Progress::Plain => {
            let called = if names.is_empty() { String::new() } else { format!(" {}", names.join(" ")) };
            session.console.message(&format!("built {}{called}", outcome.manifest.digest));
        }
    }
    Ok(())
}

/// What `--metadata-file` says, in BuildKit's words (O-55).
fn metadata(request: &BuildRequest, outcome: &Outcome) -> String {
    let names: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
    let mut value = serde_json::json!({
        "containerimage.config.digest": outcome.config.to_string(),
        "containerimage.descriptor": outcome.manifest,
        "containerimage.digest": outcome.manifest.digest.to_string(),
    });
    if !names.is_empty() {
        value["image.name"] = names.join(",").into();
    }
    format!("{value:#}\n")
}
