//! `kiln pull`: pulls an image from a registry into the store.

use crate::engine::VerifyingStore;
use crate::layer::Limits;
use crate::oci::platform::Platform;
use crate::registry::Client;
use crate::ui::sanitize;

use super::args::PullArgs;
use super::failure::{Done, SUCCESS};
use super::session::Session;
use super::store::check_platform;
use super::table;

/// Layers pulled at the same time.
const JOBS: usize = 4;

/// Pulls the missing blobs of an image. Ok: the image is complete in the store and has its name.
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
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let pulled = client.resolve(&args.name, &platform, &store).and_then(|pinned| {
        let verifying = VerifyingStore::of(&store, &pinned.image, &limits);
        client.fetch(&args.name, &pinned.image.manifest.layers, &verifying, JOBS)?;
        Ok(pinned)
    });
    session.announce_registries(&client);
    let pinned = pulled?;
    check_platform(&args.name.familiar(), &pinned.image, args.platform.as_ref())?;
    // Only this platform was pulled: the name points at its manifest, not at an incomplete index.
    let target = &pinned.image.descriptor;
    store.tag(std::slice::from_ref(&args.name), target)?;
    if args.quiet {
        session.console.data(format_args!("{}", target.digest))?;
    } else {
        let (name, size) = (args.name.familiar(), table::size(pinned.image.size()));
        session.console.data(format_args!("{name}: {} ({}, {size})", target.digest, pinned.image.config.platform))?;
    }
    Ok(SUCCESS)
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
