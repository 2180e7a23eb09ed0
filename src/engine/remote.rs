//! Asks shared caches for what the store lacks, and sends them what a build made.
//!
//! **Order.** The store is looked up first: an unchanged build asks nobody. Then the image of the whole build, then all steps
//! whose keys are known, at once; while steps run, each key that became known later. Nothing is fetched here ([`Blobs`]).
//!
//! [`Blobs`]: super::blobs::Blobs

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::digest::{BlobDigest, DiffId};
use crate::base::stable::StableHasher;
use crate::cache::remote::{Cut, Entry, EntryName, ImageEntry, LayerEntry, MIN_CUT, Segments};
use crate::cache::{KeyParts, StepKey, step_key};
use crate::layer::SegmentIndex;
use crate::oci::blob::BlobSink as _;
use crate::oci::descriptor::Layer;
use crate::oci::reference::Reference;
use crate::plan::{ImageName, Plan, Step, StepId, StepKind};
use crate::snapshot::SEGMENTS;
use crate::store::Sources;

use super::assemble::{self, Outcome};
use super::base;
use super::builder::Builder;
use super::chain::State;
use super::error::{Error, StepError};
use super::event::{Event, Observer};
use super::foresee::Foreseen;
use super::lookup::Lookup;
use super::records::Terms;
use super::shared::Shared;
use super::task::Task;

/// The image of the whole build, if a shared cache has one and no other one needs its steps.
pub(super) fn image(
    shared: &Shared<'_>,
    foreseen: &Foreseen,
    observer: &mut dyn Observer,
) -> Result<Option<Outcome>, Error> {
    let Some((name, entry)) = whole(shared, foreseen)? else { return Ok(None) };
    if !shared.builder.sender.all_have(&name) {
        return Ok(None);
    }
    let mut layers = base_layers(shared);
    layers.extend(entry.layers());
    let outcome = assemble::of_layers(shared.builder.store, shared.plan, layers)?;
    if outcome.manifest.digest != entry.manifest {
        return Ok(None);
    }
    if let Some(request) = &shared.plan.target_stage().base {
        shared.blobs.promise_base(request, base::resolved(shared, request));
    }
    for step in &shared.plan.steps {
        observer.event(&Event::Cached(step.id));
    }
    Ok(Some(outcome))
}

/// What a shared cache has of the whole build, if it has the layers, too.
pub(super) fn whole(shared: &Shared<'_>, foreseen: &Foreseen) -> Result<Option<(EntryName, ImageEntry)>, Error> {
    let Some(name) = foreseen.image() else { return Ok(None) };
    shared.builder.remotes.ask(&[name]);
    let Some(entry) = shared.builder.remotes.entry(&name).and_then(|entry| entry.image) else { return Ok(None) };
    for layer in entry.layers() {
        if !shared.blobs.have(&layer)? {
            return Ok(None);
        }
    }
    Ok(Some((name, entry)))
}

/// Asks for all steps that have no state and whose keys are known. Base images under those that are found need not be fetched
/// before a step reads their files.
pub(super) fn ask_for_steps(shared: &Shared<'_>, foreseen: &Foreseen, states: &[Option<Arc<State>>]) {
    let remotes = shared.builder.remotes;
    let wanted = shared.plan.steps.iter().filter(|step| states[step.id.index()].is_none() && !step.meta.no_cache);
    let named = |step: &'_ Step| Some((step.inputs.first().copied(), EntryName::Step(foreseen.keys[step.id.index()]?)));
    let named: Vec<(Option<StepId>, EntryName)> = wanted.filter_map(named).collect();
    remotes.ask(&named.iter().map(|(_, name)| *name).collect::<Vec<_>>());
    let found = named.iter().filter(|(_, name)| remotes.entry(name).is_some());
    let _ = shared.late_bases.set(found.filter_map(|(parent, _)| *parent).collect());
}

/// Fetches the layers that the steps without a state work on, as far as they are known, all at once. What fails is fetched
/// again by the step that reads it.
pub(super) fn fetch_ahead(shared: &Shared<'_>, wanted: &[Layer]) {
    let _ = shared.blobs.fetch_all(wanted);
}

/// The layers for [`fetch_ahead`].
pub(super) fn wanted(shared: &Shared<'_>, states: &[Option<Arc<State>>]) -> Result<Vec<Layer>, Error> {
    let mut wanted: BTreeMap<DiffId, Layer> = BTreeMap::new();
    if shared.builder.remotes.is_empty() {
        return Ok(Vec::new());
    }
    for step in shared.plan.steps.iter().filter(|step| states[step.id.index()].is_none()) {
        for state in step.inputs.iter().filter_map(|input| states[input.index()].as_ref()) {
            wanted.extend(state.layers()?.into_iter().map(|layer| (layer.diff_id, layer)));
        }
    }
    Ok(wanted.into_values().collect())
}

/// Sends the result of a step that has just been made.
pub(super) fn send_step<'a>(
    shared: &Shared<'a>,
    lookup: &Lookup<'a>,
    task: Task<'_>,
    parts: &KeyParts,
    layer: &Layer,
) -> Result<(), StepError> {
    let sender = shared.builder.sender;
    if sender.is_empty() {
        return Ok(());
    }
    let in_image = chain(shared.plan).contains(&task.step.id);
    // What is below comes first, also if this build has only found it.
    let parent = |id: &StepId| shared.plan.step(*id).inputs.first().copied();
    let steps = std::iter::successors(task.step.inputs.first().copied(), parent);
    let states = task.inputs.first().map(State::over_base).unwrap_or_default();
    let found: Vec<_> = states.iter().rev().zip(steps).collect();
    for (state, id) in found.into_iter().rev() {
        if let Some(layer) = state.own_layer_now() {
            send_layer(shared, (shared.plan.step(id), state.parent()), (state.key, state.key), &layer, in_image)?;
        }
    }
    send(shared, lookup, task, parts.key(), layer, in_image).map(drop)
}

/// Sends all results of a build, and the image. To be called when no step runs.
pub(super) fn send_all<'a>(
    shared: &Shared<'a>,
    lookup: &Lookup<'a>,
    foreseen: &Foreseen,
    states: &[Arc<State>],
    outcome: &Outcome,
) -> Result<(), Error> {
    let sender = shared.builder.sender;
    if !sender.wants_all() && foreseen.image().is_some_and(|name| sender.all_have(&name)) {
        return Ok(());
    }
    let (chain, mut replaces) = (chain(shared.plan), false);
    for (step, state) in shared.plan.steps.iter().zip(states) {
        if matches!(step.kind, StepKind::Base(_)) {
            continue;
        }
        let Some(layer) = state.own_layer()? else { continue };
        let inputs: Vec<Arc<State>> = step.inputs.iter().map(|input| Arc::clone(&states[input.index()])).collect();
        let sent = send(shared, lookup, Task { step, inputs: &inputs }, state.key, &layer, chain.contains(&step.id));
        replaces |= sent.map_err(|error| shared.located(step.id, error))?;
    }
    let last = &states[shared.plan.target_stage().last.index()];
    let own = last.layers()?.split_off(base_layers(shared).len());
    if let Some(root) = foreseen.root
        && let Some(entry) = Entry::of_image(root, outcome.manifest.digest, &own)
    {
        // Builds that do not ask for an age find the newer result, too.
        let found = replaces.then(|| {
            shared.builder.remotes.ask(&[entry.name]);
            shared.builder.remotes.entry(&entry.name)
        });
        let other = |found: &Entry| found.image.as_ref().is_some_and(|image| image.manifest != outcome.manifest.digest);
        sender.send(&entry, last.made_key(), true, None, found.flatten().filter(other).as_ref());
    }
    Ok(())
}

/// Sends the result of a step under its names. Ok(true): it replaces another one.
fn send<'a>(
    shared: &Shared<'a>,
    lookup: &Lookup<'a>,
    task: Task<'_>,
    key: StepKey,
    layer: &Layer,
    in_image: bool,
) -> Result<bool, StepError> {
    let step = (task.step, task.inputs.first());
    let mut replaces = send_layer(shared, step, (key, key), layer, in_image)?;
    if let Some(EntryName::Step(second)) = lookup.second_name(shared, task)? {
        replaces |= send_layer(shared, step, (second, key), layer, in_image)?;
    }
    Ok(replaces)
}

/// Sends the layer of a step over another one, under a name, beside the step's own key; while the layers below are packed,
/// nothing: then it is sent at the end. Ok(true): it replaces one that could not be used.
fn send_layer(
    shared: &Shared<'_>,
    (step, parent): (&Step, Option<&Arc<State>>),
    (name, key): (StepKey, StepKey),
    layer: &Layer,
    in_image: bool,
) -> Result<bool, StepError> {
    let Builder { remotes, sender, settings, .. } = shared.builder;
    let terms = Terms::of(step, parent, settings.began);
    let Some(made) = terms.complete(shared.records().made(key)?) else { return Ok(false) };
    let blobs = [(settings.compression.method(), layer.blob.clone())].into();
    let entry = Entry::of_layer(name, LayerEntry { key, diff_id: layer.diff_id, blobs, parts: None, made });
    let is_unfit = |found: &Entry| found.layer.as_ref().is_some_and(|layer| !terms.fit(layer.made));
    let found = remotes.entry(&entry.name).filter(is_unfit);
    let (below, cut) = (parent.and_then(|parent| parent.made_key()), cut(shared, step, layer).map(Arc::new));
    sender.send(&entry, below, in_image, cut.as_ref(), found.as_ref());
    Ok(found.is_some())
}

/// A layer in segments. `None`: it is small, or what is kept beside it is missing, so that it is sent whole.
fn cut(shared: &Shared<'_>, step: &Step, layer: &Layer) -> Option<Cut> {
    if layer.blob.size <= MIN_CUT {
        return None;
    }
    let index = SegmentIndex::from_bytes(&shared.layers.kept(layer.diff_id, SEGMENTS)?)?;
    let segments = Segments::new(index.0.iter().map(|segment| (segment.check, segment.len)));
    let content = Arc::new(shared.builder.store.blob_file(layer.blob.digest).ok()?);
    Some(Cut { latest: slot(shared, step), segments, content })
}

/// The place of a step, on every machine: which Dockerfile, stage and instruction. It has no value of the build.
fn slot(shared: &Shared<'_>, step: &Step) -> EntryName {
    let mut hasher = StableHasher::new("kiln.shared-slot.v1");
    // Checkouts are in different places, in a directory with the name of the project.
    let file: Vec<&str> = shared.builder.settings.slots.rsplit('/').take(2).collect();
    hasher.field("file", file.join("/").as_bytes());
    hasher.field("place", step.meta.slot.as_bytes());
    hasher.field("platform", shared.plan.target_stage().platform.to_string().as_bytes());
    EntryName::Slot(step_key::whole(hasher.finish()))
}

/// Notes with the image where those of its layers can be fetched that the store lacks. Ok: each is in the store, or in a
/// repository that the image names.
pub(super) fn name_sources(shared: &Shared<'_>, mut outcome: Outcome) -> Result<Outcome, Error> {
    let builder = shared.builder;
    let mut missing = Vec::new();
    for layer in &outcome.layers {
        if !builder.store.has(&layer.blob).map_err(crate::store::Error::from)? {
            missing.push(layer);
        }
    }
    let (mut sources, base) = (Sources::default(), base_layers(shared));
    let mut fetch = Vec::new();
    for layer in missing {
        let of_base = base.iter().any(|other| other.blob.digest == layer.blob.digest);
        match (of_base, builder.remotes.repository_with(&layer.blob)) {
            (false, Some(repository)) if !builder.settings.needs_layers => {
                sources.add(outcome.manifest.digest, repository);
            }
            (true, _)
                if !builder.settings.needs_layers
                    && let Some((digest, name)) = base_name(shared) =>
            {
                sources.add(digest, name);
            }
            _ => fetch.push(layer.clone()),
        }
    }
    shared.blobs.fetch_all(&fetch)?;
    sources.keep(&mut outcome.manifest);
    Ok(outcome)
}

/// The base image's manifest and name, if it is in a registry.
fn base_name(shared: &Shared<'_>) -> Option<(BlobDigest, Reference)> {
    let request = shared.plan.target_stage().base.as_ref()?;
    match &request.image {
        ImageName::Reference(name) => Some((base::resolved(shared, request).manifest.digest, name.clone())),
        ImageName::Layout(_) => None,
    }
}

fn base_layers(shared: &Shared<'_>) -> Vec<Layer> {
    let base = shared.plan.target_stage().base.as_ref().map(|request| base::resolved(shared, request));
    base.map(|image| image.layers.clone()).unwrap_or_default()
}

/// The steps that make the target's layers.
fn chain(plan: &Plan) -> BTreeSet<StepId> {
    let parent = |id: &StepId| plan.step(*id).inputs.first().copied();
    std::iter::successors(Some(plan.target_stage().last), parent).collect()
}
