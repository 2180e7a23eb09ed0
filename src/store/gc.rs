//! What of the store goes, and its going.
//!
//! **Holds.** A named image stays whole, whatever is asked for. What nothing needs (blobs of no image and no record,
//! unpacked layers of none) always goes. What is decided is a value ([`plan`]); doing it decides nothing ([`Store::sweep`]).
//! **Order.** Names, then records, then unpacked layers and mounts, then blobs: cut short anywhere, what is still named
//! or recorded is whole. Directories are moved to scratch before they are emptied, so that none is seen half there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::base::digest::{BlobDigest, DiffId};
use crate::base::fs;
use crate::base::lock::Exclusive;
use crate::base::time::Timestamp;

use super::mounts::MountInstance;
use super::survey::Survey;
use super::{Error, Scratch, Store};

/// How much may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unnamed images.
    pub unnamed: bool,
    /// The cache of named images: their records, their unpacked layers, stat indexes, downloads.
    pub named_cache: bool,
    /// Cache mounts.
    pub mounts: bool,
    /// Stop, oldest first, as soon as the store takes no more than this.
    pub keep: Option<u64>,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Unnamed images.
    pub images: Vec<BlobDigest>,
    /// Records of steps.
    pub records: Vec<PathBuf>,
    /// Stat indexes, downloads and the like.
    pub notes: Vec<PathBuf>,
    /// Unpacked layers.
    pub unpacked: Vec<PathBuf>,
    /// Cache mounts.
    pub mounts: Vec<MountInstance>,
    /// Blobs.
    pub blobs: Vec<BlobDigest>,
    /// How many bytes that is.
    pub freed: u64,
}

/// One thing that can go, with all that goes with it.
enum Candidate<'s> {
    Image(&'s BlobDigest),
    /// All records of one layer: none of them alone frees anything.
    Steps(DiffId),
    Unpacked(&'s DiffId),
    Note(usize),
    Mount(usize),
}

/// Decides what goes.
pub fn plan(survey: &Survey, policy: &Policy) -> Sweep {
    let mut needs = Needs::of(survey);
    let mut sweep = Sweep::default();
    let stray = |blob: &BlobDigest| !needs.blobs.contains_key(blob) && !survey.busy.blobs.contains(blob);
    for (blob, bytes) in survey.blobs.iter().filter(|(b, _)| stray(b)) {
        sweep.blobs.push(*blob);
        sweep.freed += bytes;
    }
    for layer in survey.unpacked.keys().filter(|layer| !needs.layers.contains_key(layer)) {
        drop_layer(survey, &mut needs.gone, layer, &mut sweep);
    }
    let total = survey.total();
    let mut candidates = candidates(survey, policy, &needs);
    candidates.sort_by_key(|(used, _)| *used);
    // What frees nothing yet may free something once another is gone: look again until nothing changes.
    loop {
        let before = candidates.len();
        let mut left = Vec::new();
        for (used, candidate) in candidates {
            let enough = policy.keep.is_some_and(|keep| total - sweep.freed <= keep);
            if enough || (policy.keep.is_some() && gain(survey, &needs, &candidate) == 0) {
                left.push((used, candidate));
            } else {
                give_up(survey, policy, &mut needs, candidate, &mut sweep);
            }
        }
        candidates = left;
        if candidates.len() == before || candidates.is_empty() {
            return sweep;
        }
    }
}

/// Who needs what.
#[derive(Default)]
struct Needs {
    /// How many images and layers' records need a blob.
    blobs: BTreeMap<BlobDigest, usize>,
    /// How many images and records need a layer.
    layers: BTreeMap<DiffId, usize>,
    /// Layers whose unpacked files were given up.
    gone: BTreeSet<DiffId>,
    /// Layers of named images.
    named: BTreeSet<DiffId>,
    /// The blobs that the records of a layer need.
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
    // A bound is a bound: with one, the cache of named images goes too when it is the oldest.
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
            let used = image.layers.iter().map(used_by_steps).max().unwrap_or_default();
            list.push((used, Candidate::Image(digest)));
        }
    }
    if named {
        let idle = survey.notes.iter().enumerate().filter(|(at, _)| !survey.busy.notes.contains(at));
        list.extend(idle.map(|(at, note)| (note.used, Candidate::Note(at))));
    }
    if policy.mounts {
        let idle = survey.mounts.iter().enumerate().filter(|(_, m)| !m.busy);
        list.extend(idle.map(|(at, mount)| (mount.used, Candidate::Mount(at))));
    }
    list
}

/// What giving a candidate up would free now.
fn gain(survey: &Survey, needs: &Needs, candidate: &Candidate<'_>) -> u64 {
    let last = |blob: &&BlobDigest| needs.blobs.get(blob) == Some(&1) && !survey.busy.blobs.contains(blob);
    let sum = |blobs: &BTreeSet<BlobDigest>| blobs.iter().filter(last).filter_map(|b| survey.blobs.get(b)).sum();
    match candidate {
        Candidate::Image(digest) => survey.images.get(digest).map(|i| sum(&i.blobs)).unwrap_or(0),
        Candidate::Steps(layer) => needs.steps.get(layer).map(|(_, blobs)| sum(blobs)).unwrap_or(0),
        Candidate::Unpacked(layer) if needs.gone.contains(layer) => 0,
        Candidate::Unpacked(layer) => survey.unpacked[layer].files,
        Candidate::Note(at) => survey.notes[*at].bytes,
        Candidate::Mount(at) => survey.mounts[*at].bytes,
    }
}

fn give_up(survey: &Survey, policy: &Policy, needs: &mut Needs, candidate: Candidate<'_>, sweep: &mut Sweep) {
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
        // The tree beside the files says what a layer holds without unpacking it again: as long as somebody needs the
        // layer and space is not all that counts, it stays.
        Candidate::Unpacked(layer) if policy.keep.is_some() => {
            if needs.gone.insert(*layer) {
                sweep.unpacked.extend(survey.unpacked[layer].forms.iter().cloned());
                sweep.freed += survey.unpacked[layer].files;
            }
        }
        Candidate::Unpacked(layer) => drop_layer(survey, &mut needs.gone, layer, sweep),
        Candidate::Note(at) => {
            sweep.notes.push(survey.notes[at].path.clone());
            sweep.freed += survey.notes[at].bytes;
        }
        Candidate::Mount(at) => {
            sweep.mounts.push(survey.mounts[at].clone());
            sweep.freed += survey.mounts[at].bytes;
        }
    }
}

impl Needs {
    /// Somebody needs these no more; what nobody needs now goes.
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
                drop_layer(survey, &mut self.gone, layer, sweep);
            }
        }
    }
}

/// A layer's directory goes whole, whatever is still in it.
fn drop_layer(survey: &Survey, gone: &mut BTreeSet<DiffId>, layer: &DiffId, sweep: &mut Sweep) {
    let idle = !survey.busy.layers.contains(layer);
    let found = survey.unpacked.get(layer).filter(|u| idle && !sweep.unpacked.contains(&u.path));
    let Some(unpacked) = found else { return };
    sweep.unpacked.push(unpacked.path.clone());
    sweep.freed += unpacked.about + if gone.insert(*layer) { unpacked.files } else { 0 };
}

impl Store {
    /// Takes what was decided out of the store; what is large goes to `trash`, and is gone with it. `alone` proves that
    /// nobody relies on it (S-131). Ok: nobody finds it any more. Repeating is harmless.
    pub fn sweep(&self, sweep: &Sweep, trash: &Scratch, alone: &Exclusive) -> Result<(), Error> {
        for image in &sweep.images {
            self.forget(*image)?;
        }
        for file in &sweep.records {
            fs::remove(file)?;
        }
        for (number, dir) in sweep.unpacked.iter().chain(&sweep.notes).enumerate() {
            match fs::rename(dir, &trash.path().join(number.to_string())) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        let nobody = self.leases(alone)?.is_empty();
        for (number, mount) in sweep.mounts.iter().enumerate() {
            // Somebody may have mounted it since it was looked at.
            let Some(locked) = self.try_lock_mount(mount)? else { continue };
            locked.take(&trash.path().join(format!("mount-{number}")))?;
            if nobody {
                // Nobody waits for its lock. Other instances may still be there.
                fs::remove_tree(&mount.path)?;
                if let Some(dir) = mount.path.parent() {
                    let _ = std::fs::remove_dir(dir);
                }
            }
        }
        for blob in &sweep.blobs {
            fs::remove(&self.blob_path(*blob))?;
        }
        Ok(self.claims().sweep()?)
    }
}
