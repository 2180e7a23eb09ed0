//! `kiln pull`: pulls an image from a registry into the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::engine::{Counted, ImageSource as _, Images, Pull, Unpacker, VerifyingStore};
use crate::layer::Limits;
use crate::oci::blob::BlobSink as _;
use crate::oci::descriptor::Descriptor;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::plan::{ImageName, ImageRequest};
use crate::registry::{Client, HelperAnswers};
use crate::sandbox::userns::{self, Privilege};
use crate::store::{Error, Store};
use crate::ui::console::Console;
use crate::ui::meter::Meter;
use crate::ui::sanitize;

use super::all_platforms::{self, JOBS, Parts};
use super::args::{PullArgs, RegistryArgs};
use super::failure::{Done, Failure, SUCCESS, describe};
use super::session::Session;
use super::store::check_platform;
use super::table;

/// Pulls the missing blobs of an image. Ok: the image is complete in the store, for one platform or all, and has its name.
pub(super) fn run(args: &PullArgs, session: &mut Session<'_>) -> Done {
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    drop(session.lease(&store)?);
    let options = session.environment.pulling(&args.registries)?;
    let handed = Session::handed_over::<Handover>();
    if let Some(handed) = &handed {
        options.credentials.remember(handed.helpers.clone());
    }
    let client = Client::new(options);
    let resolved = handed.map(|handed| handed.image);
    let resolved = match !args.all_platforms && resolved.is_none() && session.unpacks_inside(args.platform.as_ref()) {
        true => match inside(args, &client, &store, session)? {
            Inside::Done(code) => return Ok(code),
            Inside::Not(image) => Some(*image),
        },
        false => resolved,
    };
    let unpacker = if args.all_platforms { None } else { session.unpacker(&store, args.platform.as_ref())? };
    let progress = Arriving::new(args.name.familiar(), (!args.quiet).then(|| Console::stdio(session.console.colour())));
    let pulled = match args.all_platforms {
        true => all(args, &client, &store, &limits),
        false => one(args, (&client, &store, &limits), resolved, unpacker.as_ref(), &progress),
    };
    drop(progress);
    session.announce_registries(&client);
    let Pulled { target, platforms, size } = pulled?;
    store.tag(std::slice::from_ref(&args.name), &target)?;
    if args.quiet {
        session.console.data(format_args!("{}", target.digest))?;
    } else {
        let (name, size) = (args.name.familiar(), table::size(size));
        let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        session.console.data(format_args!("{name}: {} ({}, {size})", target.digest, platforms.join(", ")))?;
    }
    Ok(SUCCESS)
}

/// An image whose blobs are in the store.
struct Pulled {
    target: Descriptor,
    platforms: Vec<Platform>,
    size: u64,
}

/// What the process inside a user namespace is handed: the name is resolved once, and credential helpers may refuse to serve
/// root of a user namespace.
#[derive(Serialize, Deserialize)]
struct Handover {
    image: Descriptor,
    helpers: HelperAnswers,
}

/// Where an image was pulled.
enum Inside {
    /// In a process inside a user namespace, with this exit code.
    Done(u8),
    /// Nowhere yet: it needs no such process, or there can be none. The image is resolved.
    Not(Box<Descriptor>),
}

/// Pulls in a process inside a user namespace, which can give unpacked files their owners.
fn inside(args: &PullArgs, client: &Client, store: &Store, session: &mut Session<'_>) -> Result<Inside, Failure> {
    let resolved = resolve(args, client, store);
    session.announce_registries(client);
    let Image { descriptor: image, manifest, .. } = resolved?;
    // Nothing will arrive, so nothing is unpacked.
    if manifest.layers.iter().all(|layer| store.has(layer).unwrap_or(false)) {
        return Ok(Inside::Not(Box::new(image)));
    }
    session.hand_over(&Handover { image: image.clone(), helpers: client.helper_answers() });
    if let Ok(code) = session.enter_namespace()? {
        return Ok(Inside::Done(code));
    }
    // Signals were left to the process that there is not.
    session.interruptible()?;
    Ok(Inside::Not(Box::new(image)))
}

/// Ok: the store has the manifest and config of one platform.
fn resolve(args: &PullArgs, client: &Client, store: &Store) -> Result<Image, Failure> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let image = client.resolve(&args.name, &platform, store)?.image;
    check_platform(&args.name.familiar(), &image, args.platform.as_ref())?;
    Ok(image)
}

/// Pulls one platform. The name will point at its manifest, not at an incomplete index.
fn one(
    args: &PullArgs,
    (client, store, limits): (&Client, &Store, &Limits),
    resolved: Option<Descriptor>,
    unpacker: Option<&Unpacker<'_>>,
    progress: &Arriving,
) -> Result<Pulled, Failure> {
    let image = match resolved {
        Some(manifest) => Image::read(store, &manifest, &Platform::host()).map_err(Error::from)?,
        None => resolve(args, client, store)?,
    };
    let verifying = VerifyingStore::of(store, &image, limits);
    let verifying = match unpacker {
        Some(unpacker) => verifying.reading(unpacker.arrivals()),
        None => verifying,
    };
    progress.begin(image.size());
    let sink = Counted { inner: &verifying, on_bytes: &|bytes| progress.add(bytes) };
    client.fetch(&args.name, &image.manifest.layers, &sink, JOBS)?;
    let size = image.size();
    Ok(Pulled { target: image.descriptor, platforms: vec![image.config.platform], size })
}

/// Pulls all platforms.
fn all(args: &PullArgs, client: &Client, store: &Store, limits: &Limits) -> Result<Pulled, Failure> {
    let found = all_platforms::fetch(client, &args.name, store, Parts::Everything, limits)?;
    let (platforms, size) = (all_platforms::platforms(&found, store), all_platforms::size(&found));
    Ok(Pulled { target: found.target, platforms, size })
}

/// Pulls an image that a command needs, if the store does not know it or `pull` demands it. Ok: the store has it.
pub(super) fn needed(
    text: &str,
    platform: Option<&Platform>,
    pull: Pull,
    registries: &RegistryArgs,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    // The process outside a user namespace has done it. What is no name is an id.
    let (true, Ok(name)) = (session.environment.began().is_none(), text.parse::<Reference>()) else { return Ok(()) };
    let store = session.store()?;
    let known = match store.find(text) {
        Ok(_) => true,
        Err(Error::NoSuchImage { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    if pull == Pull::Never || (pull == Pull::Missing && known) {
        return Ok(());
    }
    drop(session.lease(&store)?);
    let client = Client::new(session.environment.pulling(registries)?);
    let images = Images { store: &store, registry: &client, pull, pinned: &BTreeMap::new() };
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let request = ImageRequest { image: ImageName::Reference(name.clone()), platform: wanted };
    let unpacker = session.unpacker(&store, platform)?;
    let progress = Arriving::new(name.familiar(), Some(Console::stdio(session.console.colour())));
    let fetched = images.resolve(&request).and_then(|image| {
        let layers: Vec<Descriptor> = image.layers.iter().map(|layer| layer.blob.clone()).collect();
        progress.begin(layers.iter().map(|layer| layer.size).sum());
        let arrivals = unpacker.as_ref().map(Unpacker::arrivals);
        images.fetch(&request, &image, &layers, &|bytes| progress.add(bytes), arrivals)
    });
    drop(progress);
    session.announce_registries(&client);
    fetched.map_err(|error| {
        let (kind, message, hint) = describe(&error);
        hint.into_iter().fold(Failure::new(kind, message), Failure::hint)
    })
}

fn runs_here(platform: Option<&Platform>) -> bool {
    platform.is_none_or(|platform| *platform == Platform::host())
}

/// Shows how much of an image has arrived.
struct Arriving {
    name: String,
    /// The meter, the bytes that have arrived, and all.
    state: Mutex<(Meter, u64, u64)>,
}

impl Arriving {
    fn new(name: String, console: Option<Console>) -> Self {
        Self { name, state: Mutex::new((Meter::new(console), 0, 0)) }
    }

    fn begin(&self, total: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.2 = total;
        state.0.line(&format!("pulling {}", self.name));
    }

    fn add(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (meter, arrived, total) = &mut *state;
        // If a mirror fails in the middle, another server sends the same bytes again.
        *arrived = (*arrived + bytes).min(*total);
        meter.progress(|| format!("{}: {} of {}", self.name, table::size(*arrived), table::size(*total)));
    }
}

impl Session<'_> {
    /// Whether images for `platform` run here, and only a process in a user namespace can give their files their owners.
    fn unpacks_inside(&self, platform: Option<&Platform>) -> bool {
        runs_here(platform) && matches!(userns::privilege(), Ok(Privilege::Plain))
    }

    /// What unpacks layers of an image that is pulled. `None`: images for `platform` do not run here, or this process cannot
    /// give files their owners; a command that needs the files unpacks them then.
    fn unpacker<'s>(&self, store: &'s Store, platform: Option<&Platform>) -> Result<Option<Unpacker<'s>>, Failure> {
        let may = !matches!(userns::privilege(), Ok(Privilege::Plain) | Err(_));
        if !(runs_here(platform) && may) {
            return Ok(None);
        }
        Ok(Some(Unpacker::new(store, self.in_user_namespace()?, None, self.wait_reporter())?))
    }

    /// Reports files of credentials and configuration that cannot be used, and mirrors that failed.
    pub(super) fn announce_registries(&mut self, client: &Client) {
        // The process inside a user namespace reads the same files as the one that started it.
        let outside = self.environment.began().is_none();
        for problem in client.take_problems().iter().filter(|_| outside) {
            self.console.labelled("warning", &sanitize::text(&format!("{}: {}", problem.origin, problem.why)));
        }
        for failure in client.take_mirror_failures() {
            let text = format!("mirror {} failed: {}", failure.host, failure.error);
            self.console.labelled("note", &sanitize::text(&text));
        }
    }
}
