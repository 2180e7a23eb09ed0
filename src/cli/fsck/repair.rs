//! Repair: damaged files are removed or written again, and blobs of pulled images are fetched again.

use std::collections::BTreeSet;

use crate::base::cancel::Cancel;
use crate::base::digest::BlobDigest;
use crate::base::lock::Patience;
use crate::cli::all_platforms::{self, JOBS, Parts};
use crate::cli::args::ConnectionArgs;
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::engine::VerifyingStore;
use crate::layer::Limits;
use crate::oci::image::manifests;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{Client, RegistryError};
use crate::store::{Lacking, ReadOnly, Store};

use super::check::Found;

/// What became of one damaged file or image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing was repaired.
    Found,
    /// It was removed: it is made again when it is needed.
    Removed,
    /// It was written or fetched again.
    Restored,
    /// A running build may use it.
    InUse,
    /// It cannot be repaired.
    Left,
}

impl Fate {
    pub(super) fn is_repaired(self) -> bool {
        matches!(self, Fate::Removed | Fate::Restored)
    }
}

/// What became of everything that was found.
pub(super) struct Outcome {
    /// Of each damaged file, in the order in which they were found.
    pub(super) files: Vec<Fate>,
    /// The images that lacked something, and why they could not be fetched.
    pub(super) images: Vec<(Lacking, Fate, Option<String>)>,
    /// Names of images that are lost.
    pub(super) lost: Vec<Reference>,
}

impl Outcome {
    /// Nothing was repaired.
    pub(super) fn of(found: &Found) -> Self {
        let images = found.lacking.iter().map(|image| (image.clone(), Fate::Found, None));
        Self { files: vec![Fate::Found; found.checked.damage.len()], images: images.collect(), lost: Vec::new() }
    }

    /// Whether the store is whole.
    pub(super) fn is_whole(&self) -> bool {
        let repaired = |fate: &Fate| fate.is_repaired();
        self.lost.is_empty() && self.files.iter().all(repaired) && self.images.iter().all(|(_, fate, _)| repaired(fate))
    }
}

/// Repairs what was found. Files are moved away under the lock that prune takes, for the time of some renames; nothing is
/// fetched while it is held.
pub(super) fn run(found: &Found, store: &Store, stop: &Cancel, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::of(found);
    if found.checked.damage.is_empty() && found.lacking.is_empty() {
        return Ok(outcome);
    }
    let report = session.wait_reporter();
    let mut waiting = |who: &str| report(who, "it uses the store");
    let trash = store.scratch()?;
    let alone = store.exclude(&mut Patience::new(&mut waiting).until(stop))?;
    for (damage, fate) in found.checked.damage.iter().zip(&mut outcome.files) {
        *fate = match store.repair_file(&damage.path, &found.bad)? {
            Some(lost) => {
                outcome.lost.extend(lost);
                Fate::Restored
            }
            None if store.discard(damage, &trash, &alone)? => Fate::Removed,
            None => Fate::InUse,
        };
    }
    drop(alone);
    trash.remove()?;
    fetch(found, store, stop, &mut outcome, session)?;
    Ok(outcome)
}

/// Fetches what images lack that came from a registry.
fn fetch(
    found: &Found,
    store: &Store,
    stop: &Cancel,
    outcome: &mut Outcome,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    drop(session.lease(store)?);
    // What was removed and has not come back is damage, also where it might as well never have been there.
    let gone = || -> Result<BTreeSet<BlobDigest>, Failure> {
        let mut gone = found.bad.clone();
        for blob in &found.bad {
            if store.blob_size(*blob)?.is_some() {
                gone.remove(blob);
            }
        }
        Ok(gone)
    };
    let lacking = store.check_images(&gone()?)?.lacking;
    let mut failed = Vec::new();
    if !lacking.is_empty() {
        let client = Client::new(session.environment.registry_options(&[], &[], None, &ConnectionArgs::default())?);
        for image in &lacking {
            let why = fetch_one(image, found, store, &client, &Limits::until(stop));
            failed.extend(why.map(|why| (image.target.digest, why)));
        }
        session.announce_registries(&client);
    }
    let left = store.check_images(&gone()?)?.lacking;
    let listed = store.entries()?;
    outcome.images.retain(|(was, _, _)| {
        let digest = was.target.digest;
        // Without its name it is listed no more; one that still lacks something follows.
        listed.iter().any(|entry| entry.target.digest == digest)
            && !lacking.iter().any(|now| now.target.digest == digest)
    });
    for (_, fate, _) in &mut outcome.images {
        *fate = Fate::Restored;
    }
    for image in lacking {
        let is_left = left.iter().any(|other| other.target.digest == image.target.digest);
        let why = failed.iter().find(|(digest, _)| *digest == image.target.digest).map(|(_, why)| why.clone());
        let fate = if is_left { Fate::Left } else { Fate::Restored };
        outcome.images.push((image, fate, why.filter(|_| is_left)));
    }
    Ok(())
}

/// Fetches what one image lacks. `Some`: why that is not possible; `None` also if the image was built here.
fn fetch_one(image: &Lacking, found: &Found, store: &Store, client: &Client, limits: &Limits) -> Option<String> {
    let known = manifests(&ReadOnly(store), &image.target).unwrap_or_default();
    if known.iter().flat_map(|(_, manifest)| &manifest.layers).any(|layer| found.built.contains(&layer.digest)) {
        return None;
    }
    let mut why = None;
    for name in &image.names {
        let pinned = Reference { digest: Some(image.target.digest), ..name.clone() };
        let fetched = match image.target.is_index() {
            true => all_platforms::fetch(client, &pinned, store, Parts::Everything, limits).map(drop),
            false => fetch_manifest(&pinned, store, client, limits),
        };
        match fetched {
            Ok(()) => return None,
            Err(e) => why = Some(e.to_string()),
        }
    }
    why
}

fn fetch_manifest(name: &Reference, store: &Store, client: &Client, limits: &Limits) -> Result<(), RegistryError> {
    let image = client.resolve(name, &Platform::host(), store)?.image;
    client.fetch(name, &image.manifest.layers, &VerifyingStore::of(store, &image, limits), JOBS)
}
