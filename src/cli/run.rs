//! `kiln run`: runs a command in an image, in the sandbox of RUN.
//!
//! **Holds.** Changes of the command are discarded, or become a layer with `--commit`. The exit status is that of the
//! command; if it did not start, 127 (no such command), 126 (cannot be executed) or 125 (anything else), as with `docker
//! run`. Later failures of kiln are 125 too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use crate::base::time::Timestamp;
use crate::device::{Devices, Refusal};
use crate::engine::{BaseImage, Throwaway, Unpacker, hosts};
use crate::oci::blob::BlobSink as _;
use crate::oci::config::History;
use crate::oci::descriptor::{CONFIG, Layer};
use crate::oci::image::Image;
use crate::oci::manifest::Manifest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::plan::Device;
use crate::sandbox::{
    Cancel, Error, Io, Launcher, Mount, Network, Outcome, Ports, Publish, RunOptions, Signals, Source, Spec,
};
use crate::store::Store;

use super::args::RunArgs;
use super::failure::{Done, Failure, Kind, notice_hints, sandbox_hint};
use super::pull;
use super::request::{self, RunRequest};
use super::session::Session;
use super::store::check_platform;

/// The exit code of failures that are not the command's.
pub(super) const NOT_STARTED: u8 = 125;

/// Runs a command in an image. Failures of kiln get a code of their own, so that they are not taken for the command's.
pub(super) fn run(args: &RunArgs, session: &mut Session<'_>) -> Done {
    attempt(args, session).map_err(|mut failure| {
        if let Kind::Build | Kind::Usage | Kind::Host = failure.kind {
            failure.kind = Kind::Command(NOT_STARTED);
        }
        failure
    })
}

/// Ok: the command ran and all its processes have ended; the code is its exit status.
fn attempt(args: &RunArgs, session: &mut Session<'_>) -> Done {
    let request = request::run(args, session.environment)?;
    check_terminal_and_name(args)?;
    // Before root of a user namespace is entered: credential helpers may refuse to serve it.
    pull::needed(&args.image(), args.platform.as_ref(), args.pull.into(), &args.registries, session)?;
    if let Some(code) = session.as_root()? {
        return Ok(code);
    }
    let signals = Signals::keep().map_err(|e| Failure::new(Kind::Host, format!("cannot block signals: {e}")))?;
    session.announce_single_id();
    if let Some(why) = &request.no_network {
        session
            .console
            .labelled("note", &format!("published ports work, but the command has no outgoing network: {why}"));
    }
    let store = session.store()?;
    let image = open_image(args, &store, session)?;
    let argv = request::command_line(args, &image.config.config)?;
    let line = argv.join(" ".as_ref()).to_string_lossy().into_owned();
    let root = root_of(&image, args, &store, session)?;
    let mut spec = Spec::new(root.rootfs(), argv);
    fill(&mut spec, args, &request, &image);
    for (what, why) in devices(&mut spec, &request)? {
        session.console.labelled("note", &format!("{what}: {why}"));
    }
    let ports = Ports::listen(&request.publish).map_err(not_started)?;
    announce(&ports, &request.publish, session);
    let io = match (args.tty, args.interactive) {
        (true, input) => Io::Terminal { input, signals: &signals },
        (false, input) => Io::Inherit { input, signals: &signals },
    };
    let cancel = Cancel::new().map_err(|e| Failure::new(Kind::Host, format!("make an event: {e}")))?;
    let watch = root.watch().map_err(|e| Failure::of_step(&e))?;
    let options = RunOptions { ports, watch: watch.as_deref() };
    let outcome = Launcher::new().run_with(&spec, options, io, &cancel).map_err(not_started)?;
    let code = u8::try_from(outcome.exit.code()).unwrap_or(u8::MAX);
    explain(&outcome, code, session);
    if let Some(name) = &args.commit {
        if !outcome.exit.success() {
            session.console.labelled("note", &format!("{} was not created: the command failed", name.familiar()));
            return Ok(code);
        }
        let layer = root.pack().map_err(|e| Failure::of_step(&e))?;
        commit(&store, name, &image, layer, &line)?;
    }
    Ok(code)
}

fn check_terminal_and_name(args: &RunArgs) -> Result<(), Failure> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--tty: standard input is not a terminal").hint("omit -t"));
    }
    match args.commit.as_ref().filter(|name| name.digest.is_some()) {
        Some(pinned) => Err(Failure::usage(format!("--commit {}: a digest cannot be chosen", pinned.familiar()))),
        None => Ok(()),
    }
}

/// Ok: the image is for the requested platform, and a prune keeps its layers for now.
fn open_image(args: &RunArgs, store: &Store, session: &Session<'_>) -> Result<Image, Failure> {
    let moment = session.lease(store)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let (_, image) = store.image(&args.image(), &platform)?;
    for layer in &image.manifest.layers {
        store.has(layer).map_err(crate::store::Error::from)?;
    }
    drop(moment);
    check_platform(&args.image(), &image, args.platform.as_ref())?;
    Ok(image)
}

/// A writable root with the files of the image; its changes are discarded.
fn root_of<'s>(
    image: &Image,
    args: &RunArgs,
    store: &'s Store,
    session: &mut Session<'_>,
) -> Result<Throwaway<'s>, Failure> {
    let layers = BaseImage::from(image.clone()).layers;
    let user_namespace = session.in_user_namespace()?;
    let method = args.snapshotter.method(user_namespace);
    let unpacker = Unpacker::new(store, user_namespace, method, session.wait_reporter())?;
    let root = Throwaway::new(&layers, unpacker).map_err(|e| Failure::of_step(&e))?;
    if let Some((what, why)) = root.fallback() {
        session.console.labelled("note", &format!("{what} ({why})"));
    }
    Ok(root)
}

/// Reports what the command did not get, and why it may have failed.
fn explain(outcome: &Outcome, code: u8, session: &mut Session<'_>) {
    for fallback in &outcome.fallbacks {
        session.console.labelled("note", &format!("without {}: {}", fallback.feature, fallback.cause));
    }
    if let (1.., Some(noticed)) = (code, &outcome.noticed) {
        for hint in notice_hints(Some(noticed)) {
            session.console.labelled("hint", &hint);
        }
    }
}

/// Fills in the spec from the image config and the options.
fn fill(spec: &mut Spec, args: &RunArgs, request: &RunRequest, image: &Image) {
    let config = &image.config.config;
    spec.env = request.environment(config);
    spec.pid_one = !args.init.unwrap_or_else(|| !is_init(spec.argv.first()));
    let dir = args.workdir.as_deref().unwrap_or(&config.working_dir);
    spec.cwd = PathBuf::from(if dir.is_empty() { "/" } else { dir });
    spec.user = args.user.clone().unwrap_or_else(|| config.user.clone());
    spec.hostname.clone_from(&args.hostname);
    let container = &request.container;
    spec.hosts = Some(hosts(&args.hostname, &container.hosts));
    spec.resolv_conf = Some(container.resolv_conf.clone()).filter(|_| request.network != Network::None);
    // As with Docker: the file of the image would name another machine. Mounts of the user may cover it.
    let name = format!("{}\n", args.hostname).into_bytes();
    let source = Source::Data { bytes: name, mode: 0o644, uid: 0, gid: 0 };
    spec.mounts = vec![Mount { source, target: PathBuf::from("/etc/hostname"), readonly: false }];
    spec.mounts.extend_from_slice(&request.mounts);
    spec.network = request.network;
    spec.devices.clone_from(&request.devices);
    spec.shm_size = container.shm_size;
    spec.rlimits.clone_from(&container.rlimits);
    spec.resources.clone_from(&container.resources);
}

/// Whether the program is an init system, by its name.
fn is_init(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| name == "init" || name == "systemd")
}

/// Adds the named devices. Returns what differs from their descriptions, and why.
fn devices(spec: &mut Spec, request: &RunRequest) -> Result<Vec<(String, String)>, Failure> {
    let found = Devices::named(&request.named_devices, &request.spec_dirs).map_err(|refused| {
        let failure = Failure::from_error(Kind::Host, &refused);
        match refused {
            Refusal::Missing { unread, .. } => {
                unread.iter().fold(failure, |failure, file| failure.note(format!("not read: {file}")))
            }
            _ => failure,
        }
    })?;
    let asked: Vec<Device> =
        request.named_devices.iter().map(|name| Device { name: name.clone(), required: true }).collect();
    Ok(found.add(&asked, spec))
}

/// Prints the host ports that kiln chose.
fn announce(ports: &Ports, publish: &[Publish], session: &mut Session<'_>) {
    let wanted: BTreeSet<u16> = publish.iter().filter_map(|one| one.host).collect();
    let mut chosen: BTreeMap<(u16, u16), Vec<String>> = BTreeMap::new();
    for (address, inside) in ports.addresses().filter(|(address, _)| !wanted.contains(&address.port())) {
        chosen.entry((inside, address.port())).or_default().push(address.to_string());
    }
    for ((inside, _), addresses) in chosen {
        session.console.labelled("note", &format!("port {inside} is published on {}", addresses.join(" and ")));
    }
}

fn not_started(error: Error) -> Failure {
    let kind = if error.is_host() { Kind::Host } else { Kind::Command(error.code()) };
    let failure = Failure::from_error(kind, &error);
    match error.hint() {
        Some(hint) => failure.hint(sandbox_hint(hint)),
        None => failure,
    }
}

/// Stores and names the image of `base` with `layer` on top. Config and times are those of the base.
fn commit(store: &Store, name: &Reference, base: &Image, layer: Layer, line: &str) -> Result<(), Failure> {
    let mut config = base.config.clone();
    config.rootfs.diff_ids.push(layer.diff_id);
    let created = config.created.unwrap_or(Timestamp::EPOCH);
    config.history.push(History {
        created: Some(created),
        created_by: Some(line.to_owned()),
        comment: Some("kiln run --commit".to_owned()),
        ..History::default()
    });
    let config = store.put(CONFIG, &config.checked_bytes().map_err(|e| Failure::build(e.to_string()))?)?;
    let layers = base.manifest.layers.iter().cloned().chain([layer.blob]).collect();
    let manifest = Manifest::new(config, layers);
    let media_type = manifest.media_type.clone().unwrap_or_default();
    let manifest = store.put(&media_type, &manifest.to_bytes())?;
    store.tag(std::slice::from_ref(name), &manifest)?;
    Ok(())
}
