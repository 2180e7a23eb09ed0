//! Uploading layers while later steps run (`--push`).
//!
//! **Holds.** Layers of the image go to its repositories as soon as they are stored, up to [`JOBS`] at a time. Nothing here
//! can fail the build: what does not arrive is sent again, with its error, by the push that follows.
//! **Order.** Manifests, and the tag, are pushed when the image has its names.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use crate::cli::push::Transfer;
use crate::engine::{Event, Observer};
use crate::oci::blob::BlobSink as _;
use crate::oci::descriptor::Descriptor;
use crate::plan::{Plan, StepId};
use crate::registry::Client;
use crate::store::Store;

use super::bases::Resolved;

/// Layers uploaded at the same time.
const JOBS: usize = 4;

/// Where layers go while the build runs.
pub(super) struct Early<'a> {
    client: &'a Client,
    store: &'a Store,
    /// One per repository.
    to: Vec<&'a Transfer<'a>>,
    /// The steps whose layers the image has.
    steps: BTreeSet<StepId>,
    /// The layers of the base image.
    base: Vec<Descriptor>,
}

impl<'a> Early<'a> {
    /// Uploads what the pushes `to` will need.
    pub(super) fn new(client: &'a Client, store: &'a Store, to: &'a [Transfer<'a>], resolved: &Resolved) -> Self {
        let mut repositories = BTreeSet::new();
        let to = to.iter().filter(|transfer| repositories.insert(transfer.name.name())).collect();
        let base = resolved.plan.target_stage().base.as_ref().and_then(|request| resolved.bases.get(request));
        let base = base.map(|image| image.layers.iter().map(|layer| layer.blob.clone()).collect());
        Self { client, store, to, steps: chain(&resolved.plan), base: base.unwrap_or_default() }
    }

    /// Runs `build`, and uploads layers meanwhile. Uploads that have begun are over when this returns; those of a build
    /// that failed are broken off.
    pub(super) fn during<T, E>(
        &self,
        observer: &mut dyn Observer,
        build: impl FnOnce(&mut dyn Observer) -> Result<T, E>,
    ) -> Result<T, E> {
        let (send, receive) = crossbeam_channel::unbounded();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..JOBS {
                let (receive, over) = (receive.clone(), &over);
                scope.spawn(move || self.work(&receive, over));
            }
            for layer in &self.base {
                let _ = send.send(layer.clone());
            }
            let result = build(&mut Tee { observer, steps: &self.steps, layers: send });
            over.store(true, Ordering::Relaxed);
            if result.is_err() {
                self.client.cancel();
            }
            result
        })
    }

    fn work(&self, layers: &Receiver<Descriptor>, over: &AtomicBool) {
        for layer in layers {
            if over.load(Ordering::Relaxed) {
                return;
            }
            if !self.store.has(&layer).unwrap_or(false) {
                continue;
            }
            for transfer in &self.to {
                let _ = self.client.push_blob(transfer.name, &layer, self.store, *transfer);
            }
        }
    }
}

/// The steps that make the target's layers.
fn chain(plan: &Plan) -> BTreeSet<StepId> {
    let mut steps = BTreeSet::new();
    let mut at = Some(plan.target_stage().last);
    while let Some(id) = at {
        steps.insert(id);
        at = plan.step(id).inputs.first().copied();
    }
    steps
}

/// Passes events on, and layers of the image to those who upload.
struct Tee<'a> {
    observer: &'a mut dyn Observer,
    steps: &'a BTreeSet<StepId>,
    layers: Sender<Descriptor>,
}

impl Observer for Tee<'_> {
    fn event(&mut self, event: &Event) {
        if let Event::Stored { step, layer } = event
            && self.steps.contains(step)
        {
            let _ = self.layers.send(layer.as_ref().clone());
        }
        self.observer.event(event);
    }
}
