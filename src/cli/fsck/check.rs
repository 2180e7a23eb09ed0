//! Reads everything in the store.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::cancel::Cancel;
use crate::base::damage::{Checked, Damage};
use crate::base::digest::{BlobDigest, DiffId};
use crate::base::fs;
use crate::cache::{Local, Slots};
use crate::cli::failure::{Failure, Kind};
use crate::oci::descriptor::{Descriptor, Layer};
use crate::snapshot::Layers;
use crate::store::{Images, Lacking, ReadOnly, Store};

/// What a check found.
pub(super) struct Found {
    /// What was read, and which files are damaged.
    pub(super) checked: Checked,
    /// The damaged blobs.
    pub(super) bad: BTreeSet<BlobDigest>,
    /// Images that lack something.
    pub(super) lacking: Vec<Lacking>,
    /// The blobs of layers that were built here.
    pub(super) built: BTreeSet<BlobDigest>,
}

/// Reads everything. Names are read before blobs, and blobs before what is derived from them.
pub(super) fn check(store: &Store, stop: &Cancel) -> Result<Found, Failure> {
    let failed = |e: crate::cache::Error| Failure::from_error(Kind::Build, &e);
    let files = store.check_files();
    let readable = !files.damage.iter().any(|damage| damage.path.ends_with("index.json"));
    let (blobs, bad) = store.check_blobs(stop)?;
    let mut images = if readable { store.check_images(&bad)? } else { Images::default() };
    if !images.lacking.is_empty() {
        // One that was removed meanwhile lacks nothing.
        let again = store.check_images(&bad)?.lacking;
        images.lacking.retain(|image| again.iter().any(|other| other.target.digest == image.target.digest));
    }
    let cache = Local::new(&store.root().join("cache"));
    let whole = |blob: &Descriptor| store.fault_of(blob, &bad).is_none();
    let records = cache.check(&whole).map_err(failed)?;
    let (mut layers, mut built): (BTreeMap<DiffId, Layer>, BTreeSet<BlobDigest>) = (images.layers, BTreeSet::new());
    for (_, _, record) in cache.all().map_err(failed)? {
        let Some(record) = record else { continue };
        for blob in record.blobs.into_values() {
            built.insert(blob.digest);
            if whole(&blob) {
                layers.entry(record.diff_id).or_insert(Layer { diff_id: record.diff_id, blob });
            }
        }
    }
    let blobs_as_they_are = ReadOnly(store);
    let kept = Layers::new(store.layers_dir(), store.claims(), &blobs_as_they_are).until(stop);
    let unpacked = kept.check(&layers).map_err(|e| Failure::from_error(Kind::Build, &e))?;
    let mut contexts = Checked::default();
    for name in fs::list(&store.contexts_dir())? {
        contexts = contexts.and(crate::context::check_index(&store.contexts_dir().join(name)));
    }
    let slots = Slots::new(&store.root().join("cache")).check().map_err(failed)?;
    let downloads = crate::fetch::check(&store.fetched_dir())?;
    let all = [files, blobs, records, slots, contexts, downloads, unpacked, store.check_mounts()?];
    let mut checked: Checked = all.into_iter().collect();
    // What a running build or prune removed or replaced meanwhile is no damage.
    checked.damage.retain(Damage::is_there);
    Ok(Found { checked, bad, lacking: images.lacking, built })
}
