//! The files that steps read: from contexts, from other steps, and from servers.
//!
//! **Order.** The files that a lookup selects and digests are kept until the step runs, so that a context is walked
//! once. Layers are unpacked only when one of their files must be read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::base::digest::Sha256;
use crate::cache::{StepKey, step_key};
use crate::copy::{self, LayerTree, Prepared};
use crate::fetch::{Remote, Secrets};
use crate::layer::{self, MergedTree};
use crate::plan::{ContextName, Copy, CopyFrom, CopySource, Mount, Run, StepId};

use super::chain::State;
use super::error::{Error, StepError};
use super::shared::Shared;
use super::task::Task;
use super::unpacked::Unpacked;

/// What stands in a key for the files of another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepFiles {
    /// Those that are selected: the key itself.
    Content,
    /// All its layers, which may be elsewhere.
    Layers,
    /// Its key: its layers are not known.
    Key,
}

/// The files of contexts that COPY and ADD steps have selected so far.
#[derive(Default)]
pub(super) struct Sources<'a> {
    selected: Mutex<BTreeMap<StepId, Prepared<'a>>>,
}

impl<'a> Sources<'a> {
    /// The digest of the files that `copy` reads: part of its key.
    pub(super) fn digest(
        &self,
        shared: &Shared<'a>,
        copy: &Copy,
        task: Task<'_>,
        files: StepFiles,
    ) -> Result<Sha256, StepError> {
        match (&copy.from, files) {
            (CopyFrom::Step(id), StepFiles::Layers) => Ok(step_key::files_of_layers(chain_of(task, *id)?)),
            (CopyFrom::Step(id), StepFiles::Key) => Ok(step_key::files_of_step(task.input(*id).key)),
            _ => self.with(shared, copy, task, |prepared, _| Ok(prepared.digest())),
        }
    }

    /// Calls `use_it` with the files that `copy` reads, selected and digested now or before.
    pub(super) fn with<R>(
        &self,
        shared: &Shared<'a>,
        copy: &Copy,
        task: Task<'_>,
        use_it: impl FnOnce(&mut Prepared<'_>, &Remote<'_>) -> Result<R, StepError>,
    ) -> Result<R, StepError> {
        let cache = shared.builder.store.fetched_dir();
        let fetches = copy.sources.iter().any(|s| matches!(s, CopySource::Http(_) | CopySource::Git(_)));
        let scratch = match fetches {
            true => shared.scratch()?.join(format!("{}-fetch", task.step.id.0)),
            false => PathBuf::new(),
        };
        let settings = shared.builder.settings;
        let remote = Remote {
            proxies: settings.proxies.clone(),
            authorities: settings.authorities.as_ref(),
            env: &settings.git_environment,
            secrets: Secrets(&settings.secrets),
            since: Some(settings.began),
            stop: Some(shared.stop),
            max_bytes: settings.max_download,
            ..Remote::new(&cache, &scratch)
        };
        match &copy.from {
            CopyFrom::Context(name) => {
                let context = shared.context(name);
                let known = self.selected.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.step.id);
                let mut prepared = match known {
                    Some(prepared) => prepared,
                    None => copy::prepare(copy, &context.tree, &remote)?,
                };
                let result = use_it(&mut prepared, &remote);
                self.selected.lock().unwrap_or_else(PoisonError::into_inner).insert(task.step.id, prepared);
                result
            }
            CopyFrom::Step(id) => {
                let state = task.input(*id);
                let tree = state.merged(&shared.layers)?;
                let files = Unpacked::new(state, shared.snapshots().ok());
                let from = LayerTree::new(&tree, &files);
                let mut prepared = copy::prepare(copy, &from, &remote).map_err(|e| files.explain(e))?;
                keep_digests(shared, state, &tree, &from)?;
                use_it(&mut prepared, &remote)
            }
        }
    }

    /// Drops the files selected for `step`, which is done.
    pub(super) fn forget(&self, step: StepId) {
        self.selected.lock().unwrap_or_else(PoisonError::into_inner).remove(&step);
    }
}

/// Stores the content digests that had to be computed in the trees of their layers, for the next build.
fn keep_digests(shared: &Shared<'_>, state: &State, tree: &MergedTree, from: &LayerTree<'_>) -> Result<(), StepError> {
    let learnt = from.learnt();
    let mut layers: Vec<usize> = learnt.iter().map(|l| l.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    if layers.is_empty() {
        return Ok(());
    }
    let diff_ids = state.diff_ids()?;
    for layer in layers {
        let mut completed = layer::Tree::clone(&tree.layers()[layer]);
        for one in learnt.iter().filter(|l| l.layer == layer) {
            completed.set_content(&one.path, one.content);
        }
        shared.layers.keep_tree(diff_ids[layer], &std::sync::Arc::new(completed)).map_err(Error::from)?;
    }
    Ok(())
}

/// The key of the file system of input `id`, by its layers.
fn chain_of(task: Task<'_>, id: StepId) -> Result<StepKey, StepError> {
    Ok(step_key::layers(&task.input(id).diff_ids()?))
}

/// The digest of the files at `source` in a context, as a bind mount shows them: part of the key.
pub(super) fn context_digest(shared: &Shared<'_>, name: &ContextName, source: &str) -> Result<Sha256, StepError> {
    Ok(copy::Mounted::new(&shared.context(name).tree, source)?.digest())
}

/// The digest of the files that each bind mount of `run` shows: part of the key.
pub(super) fn mount_digests(
    shared: &Shared<'_>,
    run: &Run,
    task: Task<'_>,
    files: StepFiles,
) -> Result<Vec<Option<Sha256>>, StepError> {
    let digest = |mount: &Mount| match mount {
        Mount::Bind { from: CopyFrom::Context(name), source, .. } => context_digest(shared, name, source).map(Some),
        Mount::Bind { from: CopyFrom::Step(id), .. } if files == StepFiles::Key => {
            Ok(Some(step_key::files_of_step(task.input(*id).key)))
        }
        // Covers all files of the other step, although only some may be mounted.
        Mount::Bind { from: CopyFrom::Step(id), .. } => Ok(Some(chain_of(task, *id)?.0)),
        _ => Ok(None),
    };
    run.mounts.iter().map(digest).collect()
}
