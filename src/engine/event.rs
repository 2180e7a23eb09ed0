//! The events of a build.
//!
//! **Order.** Events of one step come in the order `Started` or `Cached`, `Output`…, `Finished` or `Failed`; events of
//! different steps interleave. The coordinator alone calls the observer, from one thread.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Miss;
use crate::copy::Note;
use crate::oci::descriptor::Descriptor;
use crate::plan::{Plan, StepId};

/// One event of a running build.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The plan about to run; sent once, before any event that names a step.
    Planned(Arc<Plan>),
    /// Layers of a base image are about to be fetched.
    Fetching {
        /// The step that needs them.
        step: StepId,
        /// Compressed bytes to fetch.
        bytes: u64,
    },
    /// Fetching takes long; sent every few seconds.
    Fetched {
        /// The step that needs the layers.
        step: StepId,
        /// Compressed bytes fetched so far.
        bytes: u64,
        /// Compressed bytes in total.
        of: u64,
    },
    /// The step runs.
    Started {
        /// The step.
        step: StepId,
        /// Why it missed the cache.
        why: Miss,
    },
    /// Packing the step's layer takes long; sent every few seconds, also after `Finished`.
    Packing {
        /// The step.
        step: StepId,
        /// Bytes of the tar archive so far.
        bytes: u64,
    },
    /// A layer that `Packing` reported is packed.
    Packed {
        /// The step.
        step: StepId,
        /// Bytes of the tar archive.
        bytes: u64,
    },
    /// The step's result was in the cache.
    Cached(StepId),
    /// The command of a RUN wrote something.
    Output {
        /// The step.
        step: StepId,
        /// Untrusted bytes, any length, not cut at lines.
        bytes: Vec<u8>,
    },
    /// The step ran. A RUN whose layer is still being packed can fail later: the error of the build names it.
    Finished {
        /// The step.
        step: StepId,
        /// How long it took, without waiting for its inputs.
        took: Duration,
    },
    /// The step's layer is stored.
    Stored {
        /// The step.
        step: StepId,
        /// The layer's blob.
        layer: Box<Descriptor>,
    },
    /// The step failed; the error is the build's result. Not sent after `Finished`.
    Failed(StepId),
    /// Something is done differently than usual, or waited for. Each fallback is sent once.
    Fallback {
        /// What is different: `layers are copied, not mounted`.
        what: String,
        /// Why: `overlay: operation not permitted`.
        why: String,
    },
    /// Commands use the host's network, because no other was chosen. Sent once.
    HostNetwork,
    /// Java in the image does not trust the authorities that commands are given: this keystore stays as it is. Sent once.
    Keystore(String),
    /// The image has more layers than other tools support.
    ManyLayers {
        /// How many it has.
        layers: usize,
        /// How many Docker supports.
        portable: usize,
    },
    /// Data that was not used for longest was removed, because the store took more than its limit.
    StorageFreed {
        /// Bytes that were freed.
        freed: u64,
        /// Bytes that the store takes now.
        left: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The store takes more than its limit, and nothing else may be removed. Sent once.
    StorageFull {
        /// Bytes that the store takes.
        left: u64,
        /// The limit in bytes.
        limit: u64,
        /// Bytes of named images, which stay.
        named: u64,
    },
    /// A COPY, ADD or WORKDIR has something to report; the build goes on.
    Noted {
        /// The step's name in the plan.
        name: String,
        /// What it reports.
        note: Note,
    },
}

/// Receives events in order from one thread. Must not block for long, and cannot change the build.
pub(crate) trait Observer {
    /// Takes one event.
    fn event(&mut self, event: &Event);
}
