//! `kiln pull`: pulls an image from a registry into the store.

use crate::engine::VerifyingStore;
use crate::layer::Limits;
use crate::oci::descriptor::Descriptor;
use crate::oci::platform::Platform;
use crate::registry::Client;
use crate::store::Store;
use crate::ui::sanitize;

use super::args::PullArgs;
use super::failure::{Done, Failure, SUCCESS};
use super::family::{self, JOBS, Parts};
use super::session::Session;
use super::store::check_platform;
use super::table;

/// Pulls the missing blobs of an image. Ok: the image is complete in the store, for one platform or all, and has its name.
pub(super) fn run(args: &PullArgs, session: &mut Session<'_>) -> Done {
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    drop(session.lease(&store)?);
    let options = session.environment.registry_options(
        &args.insecure_registry,
        &args.registry_mirror,
        args.authfile.as_deref(),
    )?;
    let client = Client::new(options);
    let pulled = match args.all_platforms {
        true => all(args, &client, &store, &limits),
        false => one(args, &client, &store, &limits),
    };
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

/// Pulls one platform. The name will point at its manifest, not at an incomplete index.
fn one(args: &PullArgs, client: &Client, store: &Store, limits: &Limits) -> Result<Pulled, Failure> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let image = client.resolve(&args.name, &platform, store)?.image;
    check_platform(&args.name.familiar(), &image, args.platform.as_ref())?;
    let verifying = VerifyingStore::of(store, &image, limits);
    client.fetch(&args.name, &image.manifest.layers, &verifying, JOBS)?;
    let size = image.size();
    Ok(Pulled { target: image.descriptor, platforms: vec![image.config.platform], size })
}

/// Pulls all platforms.
fn all(args: &PullArgs, client: &Client, store: &Store, limits: &Limits) -> Result<Pulled, Failure> {
    let family = family::fetch(client, &args.name, store, Parts::Everything, limits)?;
    let (platforms, size) = (family::platforms(&family, store), family::size(&family));
    Ok(Pulled { target: family.target, platforms, size })
}

impl Session<'_> {
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
