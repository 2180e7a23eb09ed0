//! Pruning: what is removed from the store, and removing it.
//!
//! **Holds.** Named images stay complete under every policy. What nothing needs (blobs and unpacked layers of no image and no
//! record) is always removed. [`plan`] decides and returns a value; [`Store::sweep`] carries it out.
//! **Order.** Names, then records, then unpacked layers and mounts, then blobs: if pruning is interrupted, what is still
//! named or recorded is complete. Directories are moved to scratch before they are emptied, so that none is seen half
//! empty.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::base::digest::{BlobDigest, DiffId};
use crate::base::fs;
use crate::base::lock::Exclusive;
use crate::base::time::Timestamp;

use super::mounts::MountInstance;
use super::survey::Survey;
use super::{Error, Scratch, Store};

/// What may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Unnamed images.
    pub unnamed: bool,
    /// The cache of named images: their records and unpacked layers, stat indexes, downloads.
    pub named_cache: bool,
    /// Cache mounts.
    pub mounts: bool,
    /// Remove the least recently used first, and stop when the store uses no more than this many bytes.
    pub keep: Option<u64>,
    /// Only what was not used since then. What nothing needs goes at any age.
    pub unused_since: Option<Timestamp>,
}

/// What is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// Unnamed images.
    pub images: Vec<BlobDigest>,
    /// Records of steps.
    pub records: Vec<PathBuf>,
    /// Stat indexes, last keys of slots, downloads.
    pub cache_files: Vec<PathBuf>,
    /// Unpacked layers.
    pub unpacked: Vec<PathBuf>,
    /// Cache mounts.
    pub mounts: Vec<MountInstance>,
    /// Blobs.
    pub blobs: Vec<BlobDigest>,
    /// How many bytes that frees.
    pub freed: u64,
}

/// Something that can be removed, with everything that only it needs.
enum Candidate<'s> {
    Image(&'s BlobDigest),
    /// All records of one layer: removing only some of them frees nothing.
    Steps(DiffId),
    Unpacked(&'s DiffId),
    CacheFile(usize),
    Mount(usize),
}

/// Decides what is removed.
pub(crate) fn plan(survey: &Survey, policy: &Policy) -> Sweep {
    let mut needs = Needs::of(survey);
    let mut sweep = Sweep { records: survey.unreadable.clone(), ..Sweep::default() };
    let stray = |blob: &BlobDigest| !needs.blobs.contains_key(blob) && !survey.busy.blobs.contains(blob);
    for (blob, bytes) in survey.blobs.iter().filter(|(b, _)| stray(b)) {
        sweep.blobs.push(*blob);
        sweep.freed += bytes;
    }
    for layer in survey.unpacked.keys().filter(|layer| !needs.layers.contains_key(layer)) {
        take_out_layer(survey, &mut needs.gone, layer, &mut sweep);
    }
    let total = survey.total();
    let mut candidates = candidates(survey, policy, &needs);
    candidates.retain(|(used, _)| policy.unused_since.is_none_or(|since| *used < since));
    candidates.sort_by_key(|(used, _)| *used);
    // Something that frees nothing may free something once another candidate is gone: repeat until nothing changes.
    loop {
        let before = candidates.len();
        let mut left = Vec::new();
        for (used, candidate) in candidates {
            let enough = policy.keep.is_some_and(|keep| total - sweep.freed <= keep);
            if enough || (policy.keep.is_some() && freed_by(survey, &needs, &candidate) == 0) {
                left.push((used, candidate));
            } else {
                take_out(survey, policy, &mut needs, candidate, &mut sweep);
            }
        }
        candidates = left;
        if candidates.len() == before || candidates.is_empty() {
            return sweep;
        }
    }
}

/// How many images and records need each blob and layer.
#[derive(Default)]
struct Needs {
    /// Users of a blob: images, and layers with records.
    blobs: BTreeMap<BlobDigest, usize>,
    /// Users of a layer: images, and its records together.
    layers: BTreeMap<DiffId, usize>,
    /// Layers whose unpacked files are removed.
    gone: BTreeSet<DiffId>,
    /// Layers of named images.
    named: BTreeSet<DiffId>,
    /// For each layer with records: when they were last used, and their blobs.
    steps: BTreeMap<DiffId, (Timestamp, BTreeSet<BlobDigest>)>,
}

impl Needs {
    fn of(survey: &Survey) -> Self {
        let mut needs = Self::default();
        for image in survey.images.values() {
            image.blobs.iter().for_each(|b| *needs.blobs.entry(*b).or_default() += 1);
            image.layers.iter().for_each(|l| *needs.layers.entry(*l).or_default() += 1);
            if !image.names.is_empty() {
                needs.named.extend(&image.layers);
            }
        }
        for step in &survey.steps {
            let (used, blobs) = needs.steps.entry(step.layer).or_default();
            *used = (*used).max(step.used);
            blobs.extend(&step.blobs);
        }
        for (layer, (_, blobs)) in &needs.steps {
            blobs.iter().for_each(|b| *needs.blobs.entry(*b).or_default() += 1);
            *needs.layers.entry(*layer).or_default() += 1;
        }
        needs
    }
}

fn candidates<'s>(survey: &'s Survey, policy: &Policy, needs: &Needs) -> Vec<(Timestamp, Candidate<'s>)> {
    let mut list = Vec::new();
    // With a size bound, the cache of named images is removed, too, when it is the least recently used.
    let named = policy.named_cache || policy.keep.is_some();
    let used_by_steps = |layer: &DiffId| needs.steps.get(layer).map(|(used, _)| *used).unwrap_or_default();
    let idle = |layer: &DiffId| needs.layers.contains_key(layer) && !survey.busy.layers.contains(layer);
    for (layer, unpacked) in survey.unpacked.iter().filter(|(layer, _)| idle(layer)) {
        if named || !needs.named.contains(layer) {
            list.push((unpacked.used.max(used_by_steps(layer)), Candidate::Unpacked(layer)));
        }
    }
    for (layer, (used, _)) in needs.steps.iter().filter(|(layer, _)| !survey.busy.layers.contains(layer)) {
        if named || !needs.named.contains(layer) {
            list.push((*used, Candidate::Steps(*layer)));
        }
    }
    if policy.unnamed {
        let idle = |digest: &BlobDigest| !survey.busy.blobs.contains(digest);
        for (digest, image) in survey.images.iter().filter(|(d, i)| i.names.is_empty() && idle(d)) {
            let used = image.layers.iter().map(used_by_steps).max().unwrap_or_default().max(image.used);
            list.push((used, Candidate::Image(digest)));
        }
    }
    if named {
        let idle = survey.cache_files.iter().enumerate().filter(|(at, _)| !survey.busy.cache_files.contains(at));
        list.extend(idle.map(|(at, file)| (file.used, Candidate::CacheFile(at))));
    }
    if policy.mounts {
        let idle = survey.mounts.iter().enumerate().filter(|(_, m)| !m.busy);
        list.extend(idle.map(|(at, mount)| (mount.used, Candidate::Mount(at))));
    }
    list
}

/// How many bytes removing a candidate frees now.
fn freed_by(survey: &Survey, needs: &Needs, candidate: &Candidate<'_>) -> u64 {
    let last = |blob: &&BlobDigest| needs.blobs.get(blob) == Some(&1) && !survey.busy.blobs.contains(blob);
    let sum = |blobs: &BTreeSet<BlobDigest>| blobs.iter().filter(last).filter_map(|b| survey.blobs.get(b)).sum();
    match candidate {
        Candidate::Image(digest) => survey.images.get(digest).map(|i| sum(&i.blobs)).unwrap_or(0),
        Candidate::Steps(layer) => needs.steps.get(layer).map(|(_, blobs)| sum(blobs)).unwrap_or(0),
        Candidate::Unpacked(layer) if needs.gone.contains(layer) => 0,
        Candidate::Unpacked(layer) => survey.unpacked[layer].files,
        Candidate::CacheFile(at) => survey.cache_files[*at].bytes,
        Candidate::Mount(at) => survey.mounts[*at].bytes,
    }
}

fn take_out(survey: &Survey, policy: &Policy, needs: &mut Needs, candidate: Candidate<'_>, sweep: &mut Sweep) {
    match candidate {
        Candidate::Image(digest) => {
            let image = &survey.images[digest];
            sweep.images.push(*digest);
            needs.release(survey, &image.blobs, image.layers.iter(), sweep);
        }
        Candidate::Steps(layer) => {
            sweep.records.extend(survey.steps.iter().filter(|s| s.layer == layer).map(|s| s.record.clone()));
            let blobs = std::mem::take(&mut needs.steps.entry(layer).or_default().1);
            needs.release(survey, &blobs, [layer].iter(), sweep);
        }
        // The tree beside the files is small and saves unpacking the layer to list it: it stays while the layer is needed.
        Candidate::Unpacked(layer) if policy.keep.is_some() => {
            if needs.gone.insert(*layer) {
                sweep.unpacked.extend(survey.unpacked[layer].forms.iter().cloned());
                sweep.freed += survey.unpacked[layer].files;
            }
        }
        Candidate::Unpacked(layer) => take_out_layer(survey, &mut needs.gone, layer, sweep),
        Candidate::CacheFile(at) => {
            sweep.cache_files.push(survey.cache_files[at].path.clone());
            sweep.freed += survey.cache_files[at].bytes;
        }
        Candidate::Mount(at) => {
            sweep.mounts.push(survey.mounts[at].clone());
            sweep.freed += survey.mounts[at].bytes;
        }
    }
}

impl Needs {
    /// One user less for these blobs and layers; those without users are removed.
    fn release<'l>(
        &mut self,
        survey: &Survey,
        blobs: &BTreeSet<BlobDigest>,
        layers: impl Iterator<Item = &'l DiffId>,
        sweep: &mut Sweep,
    ) {
        let last = |users: &mut usize| {
            *users -= 1;
            *users == 0
        };
        for blob in blobs {
            if let (true, Some(bytes)) = (self.blobs.get_mut(blob).is_some_and(last), survey.blobs.get(blob))
                && !survey.busy.blobs.contains(blob)
            {
                sweep.blobs.push(*blob);
                sweep.freed += bytes;
            }
        }
        for layer in layers {
            if self.layers.get_mut(layer).is_some_and(last) {
                take_out_layer(survey, &mut self.gone, layer, sweep);
            }
        }
    }
}

/// Removes the whole directory of a layer.
fn take_out_layer(survey: &Survey, gone: &mut BTreeSet<DiffId>, layer: &DiffId, sweep: &mut Sweep) {
    let idle = !survey.busy.layers.contains(layer);
    let found = survey.unpacked.get(layer).filter(|u| idle && !sweep.unpacked.contains(&u.path));
    let Some(unpacked) = found else { return };
    sweep.unpacked.push(unpacked.path.clone());
    sweep.freed += unpacked.beside + if gone.insert(*layer) { unpacked.files } else { 0 };
}

impl Store {
    /// Removes what was decided. Directories are moved to `trash` and removed with it. `alone` proves that nobody relies on
    /// what is removed (S-131). Ok: nobody finds it any more. Repeating is harmless.
    pub(crate) fn sweep(&self, sweep: &Sweep, trash: &Scratch, alone: &Exclusive) -> Result<(), Error> {
        for image in &sweep.images {
            self.forget(*image)?;
        }
        for file in &sweep.records {
            fs::remove(file)?;
        }
        for (number, dir) in sweep.unpacked.iter().chain(&sweep.cache_files).enumerate() {
            match fs::rename(dir, &trash.path().join(number.to_string())) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        let nobody = self.leases(alone)?.is_empty();
        for (number, mount) in sweep.mounts.iter().enumerate() {
            // It may have been mounted since the survey.
            let Some(locked) = self.try_lock_mount(mount)? else { continue };
            locked.take(&trash.path().join(format!("mount-{number}")))?;
            if nobody {
                // Nobody waits for its lock. The mount may have other instances.
                fs::remove_tree(&mount.path)?;
                if let Some(dir) = mount.path.parent() {
                    let _ = std::fs::remove_dir(dir);
                }
            }
        }
        for blob in &sweep.blobs {
            // Renamed and not removed: freeing a large file takes time, and builds wait for this lock.
            match fs::rename(&self.blob_path(*blob), &trash.path().join(blob.hex())) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(self.claims().sweep()?)
    }
}
