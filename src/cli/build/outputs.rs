//! Writing outputs and names after the build.

use std::path::Path;

use crate::base::fs::FsError;
use crate::base::publish;
use crate::cli::args::Progress;
use crate::cli::failure::{Failure, Kind};
use crate::cli::push::{self, Transfer};
use crate::cli::request::{BuildRequest, Destination, Form, Output};
use crate::cli::session::Session;
use crate::engine::Outcome;
use crate::export::{Rootfs, RootfsError};
use crate::registry::Client;
use crate::store::{Archive, Named, Store, Target};

/// Removes the files of `--iidfile` and `--metadata-file`: they must not name an earlier image if this build fails (O-54).
pub(super) fn forget_old(request: &BuildRequest) -> Result<(), Failure> {
    for path in [&request.iidfile, &request.metadata_file].into_iter().flatten() {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(FsError::new("remove", path, e).into()),
            _ => {}
        }
    }
    Ok(())
}

/// Checks the destinations before the build. Later changes are found when they are written.
pub(super) fn check_places(request: &BuildRequest) -> Result<(), Failure> {
    let files = [("--iidfile", &request.iidfile), ("--metadata-file", &request.metadata_file)];
    let files = files.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?, false)));
    let outputs = request.outputs.iter().filter_map(|output| match &output.dest {
        Destination::Path(path) => Some(("--output", path.as_path(), output.form.is_directory())),
        Destination::Stdout => None,
    });
    for (option, path, wants_dir) in files.chain(outputs) {
        let wrong = |why: String| Err(Failure::build(format!("{option}: {why}")));
        match std::fs::metadata(path) {
            Ok(found) if wants_dir && !found.is_dir() => {
                return wrong(format!("{} is not a directory", path.display()));
            }
            Ok(found) if !wants_dir && found.is_dir() => return wrong(format!("{} is a directory", path.display())),
            Ok(_) => {}
            Err(_) if wants_dir => {}
            Err(_) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
                    return wrong(format!("there is no directory {}", parent.display()));
                }
            }
        }
    }
    Ok(())
}

/// Writes outputs, then names, pushes, then writes `--iidfile` and `--metadata-file`. Ok: all is done.
pub(super) fn deliver(
    store: &Store,
    request: &BuildRequest,
    outcome: &Outcome,
    (client, pushes): (&Client, &[Transfer<'_>]),
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    for output in &request.outputs {
        write(store, request, outcome, output, session)?;
    }
    store.tag(&request.tags, &outcome.manifest)?;
    for transfer in pushes {
        push::push(client, &outcome.manifest, transfer)?;
    }
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

/// Writes one output. Ok: it is complete.
fn write(
    store: &Store,
    request: &BuildRequest,
    outcome: &Outcome,
    output: &Output,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let image = &outcome.manifest;
    let named = Named { target: image, names: &request.tags };
    let archive = match output.form {
        Form::DockerArchive => Archive::Docker,
        _ => Archive::Oci,
    };
    let stdout = Path::new("standard output");
    match (output.form, &output.dest) {
        (_, Destination::Stdout) if session.console.out_is_terminal() => {
            return Err(Failure::usage("cannot write an archive to a terminal").hint("name a file with dest=FILE"));
        }
        (Form::OciArchive | Form::DockerArchive, Destination::Path(path)) => {
            store.export_file(&[named], archive, path)?;
        }
        (Form::OciArchive | Form::DockerArchive, Destination::Stdout) => {
            store.export(&[named], archive, stdout, session.console.raw())?;
        }
        (Form::OciLayout, Destination::Path(dir)) => store.export_layout(image, &request.tags, dir)?,
        (Form::RootfsTar, Destination::Path(path)) => {
            let rootfs = Rootfs::open(store, image)?;
            rootfs.write_tar(Target::open(path)?, path)?.finish(path, 0o644)?;
        }
        (Form::RootfsTar, Destination::Stdout) => {
            Rootfs::open(store, image)?.write_tar(std::io::stdout(), stdout)?;
        }
        (Form::RootfsDir, Destination::Path(dir)) => {
            let skipped = Rootfs::open(store, image)?.write_dir(dir)?;
            if let Some(first) = skipped.devices.first() {
                let text =
                    format!("{} devices were not written to {}, first {first}", skipped.devices.len(), dir.display());
                session.console.labelled("warning", &text);
            }
            if skipped.setuid > 0 {
                let text = format!("{} files were written without their setuid or setgid bit", skipped.setuid);
                session.console.labelled("note", &text);
            }
        }
        (Form::OciLayout | Form::RootfsDir, Destination::Stdout) => unreachable!("refused when the options were read"),
    }
    Ok(())
}

/// The content of `--metadata-file`, in BuildKit's form (O-55).
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

impl From<RootfsError> for Failure {
    fn from(error: RootfsError) -> Self {
        match error {
            RootfsError::Fs(error) => error.into(),
            RootfsError::Store(error) => error.into(),
            other => Self::from_error(Kind::Build, &other),
        }
    }
}
