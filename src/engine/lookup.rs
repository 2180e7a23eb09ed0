//! Looks up the results of steps in the cache, and explains misses.

use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::cache::remote::EntryName;
use crate::cache::{KeyParts, Miss, Record, StepKey, step_key};
use crate::oci::descriptor::Layer;
use crate::plan::{Base, CopyFrom, StepKind};

use super::base;
use super::chain::{Link, State};
use super::error::StepError;
use super::history::{self, History};
use super::listed;
use super::second_key;
use super::shared::Shared;
use super::sources::{Sources, StepFiles, context_digest, mount_digests};
use super::task::Task;

/// The answer for one step.
pub(super) enum LookupResult {
    /// The result is stored.
    Hit(Arc<State>),
    /// The step must be executed.
    Miss(KeyParts),
}

/// What is known of a step before the cache lookup.
pub(super) enum Question {
    /// The answer needs no lookup.
    Answered(LookupResult),
    /// The parts of the key to look up.
    Key(KeyParts),
}

/// Looks up steps.
#[derive(Default)]
pub(super) struct Lookup<'a> {
    pub(super) sources: Sources<'a>,
    pub(super) history: History,
}

impl<'a> Lookup<'a> {
    /// Looks up the result of a step.
    pub(super) fn look_up(&self, shared: &Shared<'a>, task: Task<'_>) -> Result<LookupResult, StepError> {
        if let Some(state) = self.by_layers(shared, task)? {
            return Ok(LookupResult::Hit(state));
        }
        match self.question(shared, task, StepFiles::Content)? {
            Question::Answered(look) => Ok(look),
            Question::Key(parts) => {
                let terms = shared.terms(task);
                let mut found = shared.records().layer_anywhere(&parts, terms)?;
                if found.is_none() && !shared.builder.remotes.is_empty() {
                    // A key that could not be known before.
                    shared.builder.remotes.ask(&[EntryName::Step(parts.key())]);
                    found = shared.records().layer_anywhere(&parts, terms)?;
                }
                self.answer(shared, task, parts, found)
            }
        }
    }

    /// What shared caches know of a step that reads files of other steps, whose files are elsewhere, too. `None`: nothing, or it
    /// is as easily looked up by its key.
    pub(super) fn by_layers(&self, shared: &Shared<'a>, task: Task<'_>) -> Result<Option<Arc<State>>, StepError> {
        let (remotes, sources) = (shared.builder.remotes, task.step.sources());
        if remotes.is_empty() || sources.iter().all(|id| task.input(*id).is_listed(&shared.layers)) {
            return Ok(None);
        }
        let Some(name) = self.second_name(shared, task)? else { return Ok(None) };
        remotes.ask(&[name]);
        let Some(entry) = remotes.entry(&name).and_then(|entry| entry.layer) else { return Ok(None) };
        if !shared.terms(task).allow(entry.made)? {
            return Ok(None);
        }
        for blob in entry.blobs.into_values() {
            let layer = Layer { diff_id: entry.diff_id, blob };
            if shared.blobs.have(&layer)? {
                return Ok(Some(State::over(task.parent(), entry.key, Link::stored(layer))));
            }
        }
        Ok(None)
    }

    /// The second name of a step in shared caches, if it reads files of other steps: by their layers instead of the files, which
    /// would have to be fetched to know the key. `None`: the key is as easily known.
    pub(super) fn second_name(&self, shared: &Shared<'a>, task: Task<'_>) -> Result<Option<EntryName>, StepError> {
        let (StepKind::Copy(_), sources) = (&task.step.kind, task.step.sources()) else { return Ok(None) };
        // Layers that are being packed have no digests yet.
        let packed = sources.iter().all(|id| task.input(*id).content_key().is_some());
        if sources.is_empty() || task.step.meta.no_cache || !packed {
            return Ok(None);
        }
        match self.question(shared, task, StepFiles::Layers)? {
            Question::Key(parts) => Ok(Some(EntryName::Step(parts.key()))),
            Question::Answered(_) => Ok(None),
        }
    }

    /// Computes the key of a step, for which its source files are read.
    pub(super) fn question(
        &self,
        shared: &Shared<'a>,
        task: Task<'_>,
        files: StepFiles,
    ) -> Result<Question, StepError> {
        let step = task.step;
        let parent = || task.parent().key;
        let mut parts = match &step.kind {
            StepKind::Base(Base::Scratch) => {
                return Ok(Question::Answered(LookupResult::Hit(State::base(step_key::layers(&[]), []))));
            }
            StepKind::Base(Base::Image(request)) => {
                return Ok(Question::Answered(match base::image(shared, request)? {
                    Some(state) => LookupResult::Hit(state),
                    None if shared.late_bases.get().is_some_and(|late| late.contains(&step.id)) => {
                        LookupResult::Hit(base::late_image(shared, request))
                    }
                    None => LookupResult::Miss(base::image_parts(shared, request)),
                }));
            }
            StepKind::Base(Base::Context(name)) => step_key::context(context_digest(shared, name, "/")?),
            StepKind::Run(run) => {
                let mounts = mount_digests(shared, run, task, files)?;
                step_key::run(run, parent(), &mounts, &shared.builder.devices.names(&run.devices))
            }
            StepKind::Copy(copy) => step_key::copy(copy, parent(), self.sources.digest(shared, copy, task, files)?),
            StepKind::Workdir(workdir) => step_key::workdir(workdir, parent()),
        };
        if let Some(latest) = shared.plan.clamp {
            step_key::clamp(&mut parts, latest);
        }
        Ok(if step.meta.no_cache { Question::Answered(LookupResult::Miss(parts)) } else { Question::Key(parts) })
    }

    /// The answer for a step with these `parts`, under whose key the cache has `found`. On a miss, looks up the second
    /// key too.
    pub(super) fn answer(
        &self,
        shared: &Shared<'a>,
        task: Task<'_>,
        parts: KeyParts,
        found: Option<Layer>,
    ) -> Result<LookupResult, StepError> {
        let found = match found {
            Some(layer) => Some(layer),
            None => second_key::look_up(shared, &self.history, task, &parts)?,
        };
        let Some(layer) = found else { return Ok(LookupResult::Miss(parts)) };
        let key = parts.key();
        self.note(shared, task, key)?;
        Ok(LookupResult::Hit(match task.inputs.first() {
            Some(parent) => State::over(parent, key, Link::stored(layer)),
            None => base::context_state(layer),
        }))
    }

    /// Notes that the slot of a step has `key` now, unless it already had.
    fn note(&self, shared: &Shared<'a>, task: Task<'_>, key: StepKey) -> Result<(), StepError> {
        if shared.builder.settings.explain_only || history::last_key(shared, task.step) == Some(key) {
            return Ok(());
        }
        if let StepKind::Copy(copy) = &task.step.kind {
            self.sources.with(shared, copy, task, |now, _| history::note_files(shared, task.step, now.listing()))?;
        }
        listed::note(shared, task.step)?;
        history::note_key(shared, task.step, key)
    }

    /// Whether the result of a step has been stored in the meantime.
    pub(super) fn is_there(&self, shared: &Shared<'a>, task: Task<'_>, parts: &KeyParts) -> Result<bool, StepError> {
        match &task.step.kind {
            StepKind::Base(Base::Image(request)) => Ok(base::image(shared, request)?.is_some()),
            _ => Ok(shared.records().layer(parts.key(), shared.terms(task))?.is_some()),
        }
    }

    /// The reason, if there is a result that is too old.
    fn too_old(&self, shared: &Shared<'a>, task: Task<'_>, key: StepKey) -> Result<Option<Miss>, StepError> {
        let Some(limit) = task.step.meta.max_age else { return Ok(None) };
        let stored = shared.cache.get(key)?.map(|record| record.made);
        let elsewhere = || Some(shared.builder.remotes.entry(&EntryName::Step(key))?.layer?.made);
        let Some(made) = stored.or_else(elsewhere).filter(|made| !shared.terms(task).is_fresh(*made)) else {
            return Ok(None);
        };
        let since = |at: Timestamp| shared.builder.settings.began.secs.saturating_sub(at.secs);
        let age = made.at.map(|at| u64::try_from(since(at)).unwrap_or(0));
        Ok(Some(Miss::Old { age: age.map(Duration::from_secs), limit }))
    }

    /// Why a step with these `parts` missed, when its slot produced `before` in the previous build. The first reason explains
    /// most. `from` says what stands in the parts for files of other steps.
    pub(super) fn explain(
        &self,
        shared: &Shared<'a>,
        task: Task<'_>,
        parts: &KeyParts,
        before: Option<&Record>,
        from: StepFiles,
    ) -> Result<Vec<Miss>, StepError> {
        match task.step.kind {
            StepKind::Base(Base::Image(_)) => return Ok(vec![Miss::NoRecord { absent: Vec::new() }]),
            _ if task.step.meta.no_cache => return Ok(vec![Miss::Disabled]),
            _ => {}
        }
        if let Some(why) = self.too_old(shared, task, parts.key())? {
            return Ok(vec![why]);
        }
        let Some(before) = before else {
            let absent = shared.builder.remotes.lacking(&EntryName::Step(parts.key()));
            return Ok(vec![Miss::NoRecord { absent }]);
        };
        let mut reasons = parts.explain(&before.parts);
        if reasons == [Miss::Lost] && shared.terms(task).is_over_others(before.made) {
            reasons = vec![Miss::Parent];
        }
        for reason in &mut reasons {
            let Miss::Changed { part, files } = reason else { continue };
            *files = listed::changes(shared, task.step, part)?;
            if let StepKind::Copy(copy) = &task.step.kind
                && part == step_key::FILES
                && (from == StepFiles::Content || matches!(copy.from, CopyFrom::Context(_)))
                && let Some(before) = history::last_files(shared, task.step)
            {
                *files = self.sources.with(shared, copy, task, |now, _| Ok(now.listing().changes(&before)))?;
            }
        }
        Ok(reasons)
    }
}
