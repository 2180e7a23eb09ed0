//! Unpacked layers outside a build: for the root of a command, and while an image is pulled.

use std::sync::Arc;

use crate::snapshot::{Arrivals, Layers, Method, Snapshotter, best};
use crate::store::{Error, Scratch, Store};

/// Unpacks layers of a store in a scratch directory of its own.
pub(crate) struct Unpacker<'a> {
    pub(super) store: &'a Store,
    pub(super) snapshots: Snapshotter<'a>,
    pub(super) scratch: Scratch,
    fallback: Option<(String, String)>,
}

impl<'a> Unpacker<'a> {
    /// Without `method`, layers are unpacked to be stacked if the host can. `tell` receives the holder and the reason of
    /// each wait.
    pub(crate) fn new(
        store: &'a Store,
        user_namespace: bool,
        method: Option<Method>,
        tell: impl Fn(&str, &str) + Send + Sync + 'a,
    ) -> Result<Self, Error> {
        let scratch = store.scratch()?;
        let (method, why) = method.map_or_else(|| best(user_namespace, scratch.path()), |method| (method, None));
        let what = "layers are copied instead of stacked".to_owned();
        let fallback = why.map(|why| (what, format!("overlayfs: {why}")));
        let known = Layers::new(store.layers_dir(), store.claims(), store)
            .telling(tell)
            .noticing(store.notices())
            .kept_by(|dir| store.keep_dir(dir))
            .taken_by(|dir, part, to| store.take(dir, part, to));
        let snapshots = Snapshotter::new(Arc::new(known), method, scratch.path());
        Ok(Self { store, snapshots, scratch, fallback })
    }

    /// Unpacks layers while they arrive.
    pub(crate) fn arrivals(&self) -> Arrivals<'_> {
        Arrivals { snapshots: &self.snapshots, files: true }
    }

    /// What is done differently than usual, and why.
    pub(super) fn fallback(&self) -> Option<(&str, &str)> {
        self.fallback.as_ref().map(|(what, why)| (what.as_str(), why.as_str()))
    }
}
