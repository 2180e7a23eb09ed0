//! `kiln push`: pushes images of the store to registries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::digest::BlobDigest;
use crate::base::publish;
use crate::oci::descriptor::Descriptor;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{Arrival, Client, PushObserver};
use crate::store::{Error, Store};
use crate::ui::console::Console;
use crate::ui::meter::Meter;

use super::args::PushArgs;
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;
use super::sourced::Sourced;
use super::store::check_platform;
use super::table;

/// Ok: the registries have the images, and their tags stand for them.
pub(super) fn run(args: &PushArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let store = session.store()?;
    let _lease = session.lease(&store)?;
    let (insecure, authfile) = (&args.insecure_registry, args.authfile.as_deref());
    let options = session.environment.registry_options(insecure, &[], authfile, &args.connection)?;
    store.fetch_missing_from(Arc::new(Sourced::new(session.environment, Some(options.clone()))));
    let client = Client::new(options);
    let mut images = Vec::new();
    for name in names(args, &store)? {
        let target = store.find(&name.to_string())?.target;
        let target = match &args.platform {
            Some(platform) => of_platform(&store, &name, &target, platform)?,
            None => target,
        };
        images.push((name, target));
    }
    if args.digestfile.is_some() && images.len() > 1 {
        return Err(Failure::usage("--digestfile takes the digest of one image").hint("push the images one by one"));
    }
    for (name, target) in &images {
        let console = (!args.quiet).then(|| Console::stdio(session.console.colour()));
        let pushed = push(&client, target, &Transfer::new(&store, name, console));
        session.announce_registries(&client);
        pushed?;
        if args.quiet {
            session.console.data(format_args!("{name}"))?;
        } else {
            let tag = name.tag.as_deref().unwrap_or_default();
            session.console.data(format_args!("{tag}: digest: {} size: {}", target.digest, target.size))?;
        }
        if let Some(path) = &args.digestfile {
            publish::atomic(path, target.digest.to_string().as_bytes(), 0o644)?;
        }
    }
    Ok(SUCCESS)
}

/// The manifest of one platform.
fn of_platform(
    store: &Store,
    name: &Reference,
    target: &Descriptor,
    platform: &Platform,
) -> Result<Descriptor, Failure> {
    let image = Image::read(store, target, platform).map_err(Error::from)?;
    check_platform(&name.familiar(), &image, Some(platform))?;
    Ok(image.descriptor)
}

fn names(args: &PushArgs, store: &Store) -> Result<Vec<Reference>, Failure> {
    if !args.all_tags {
        return Ok(args.names.clone());
    }
    let mut all = Vec::new();
    for name in &args.names {
        let before = all.len();
        all.extend(store.entries_in(name)?.into_iter().filter_map(|entry| entry.name));
        if all.len() == before {
            return Err(
                Failure::build(format!("no image has a tag of {}", name.name())).hint("list images with `kiln images`")
            );
        }
    }
    Ok(all)
}

/// Pushes an image. Ok: the tag stands for it.
pub(super) fn push(client: &Client, target: &Descriptor, transfer: &Transfer<'_>) -> Result<(), Failure> {
    let (store, name) = (transfer.store, transfer.name);
    // A transfer has one target.
    let _ = transfer.target.set(target.clone());
    transfer.say(&format!("pushing {name}"));
    store.mention(target);
    client.push(name, target, store, transfer).map_err(|error| {
        let failure = Failure::from(error);
        // Docker Hub lets nobody push official images: the name lacks its registry.
        match name.familiar().contains('/') {
            true => failure,
            false => failure.hint(format!("give it a name with a registry: kiln tag {0} HOST/{0}", name.familiar())),
        }
    })?;
    transfer.say_result();
    Ok(())
}

/// What the push to one name has done so far.
pub(super) struct Transfer<'a> {
    store: &'a Store,
    pub(super) name: &'a Reference,
    /// What is pushed, once that is known: a build begins to upload layers before.
    target: OnceLock<Descriptor>,
    /// The repositories of the registry that have a blob, as far as the store knows.
    holders: OnceLock<BTreeMap<BlobDigest, Vec<String>>>,
    sent: AtomicU64,
    progress: Mutex<Progress>,
}

struct Progress {
    meter: Meter,
    /// Bytes of all blobs; 0 before the push itself begins, while nothing is said.
    total: u64,
    /// Bytes that need not be sent.
    spared: u64,
    /// How each blob came to the repository first.
    arrivals: BTreeMap<BlobDigest, Arrival>,
}

impl<'a> Transfer<'a> {
    /// To `name`; says on `console` what it does.
    pub(super) fn new(store: &'a Store, name: &'a Reference, console: Option<Console>) -> Self {
        let progress = Progress { meter: Meter::new(console), total: 0, spared: 0, arrivals: BTreeMap::new() };
        Self {
            store,
            name,
            target: OnceLock::new(),
            holders: OnceLock::new(),
            sent: AtomicU64::new(0),
            progress: Mutex::new(progress),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: &str) {
        self.progress().meter.line(text);
    }

    fn say_result(&self) {
        let count = {
            let progress = self.progress();
            move |arrival| progress.arrivals.values().filter(|is| **is == arrival).count()
        };
        let [uploaded, mounted, present] = [Arrival::Uploaded, Arrival::Mounted, Arrival::Present].map(count);
        let size = table::size(self.sent.load(Ordering::Relaxed));
        let blobs = if uploaded == 1 { "blob" } else { "blobs" };
        self.say(&format!(
            "sent {uploaded} {blobs} ({size}), {mounted} taken from other repositories, {present} were there"
        ));
    }
}

impl PushObserver for Transfer<'_> {
    fn begins(&self, bytes: u64) {
        self.progress().total = bytes;
    }

    fn holders(&self, blob: &Descriptor) -> Vec<String> {
        // Without them the blob is uploaded.
        let holders = self.holders.get_or_init(|| self.store.holders(self.name, self.target.get()).unwrap_or_default());
        holders.get(&blob.digest).cloned().unwrap_or_default()
    }

    fn sent(&self, bytes: u64) {
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever holds the lock is about to say as much.
        if let Ok(mut progress) = self.progress.try_lock()
            && progress.total > 0
        {
            let (done, total) = ((sent + progress.spared).min(progress.total), progress.total);
            progress.meter.progress(|| format!("{}: {} of {}", self.name, table::size(done), table::size(total)));
        }
    }

    fn arrived(&self, blob: &Descriptor, arrival: Arrival) {
        let mut progress = self.progress();
        if let Entry::Vacant(first) = progress.arrivals.entry(blob.digest) {
            first.insert(arrival);
            progress.spared += if arrival == Arrival::Uploaded { 0 } else { blob.size };
        }
    }
}
