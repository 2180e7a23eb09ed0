//! The plan under construction: the steps so far, and the state that all stages share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::dockerfile::{Diagnostic, Dockerfile, Escape};
use crate::oci::config::{History, ImageConfig};

use super::globals::Globals;
use super::graph::{Graph, Root};
use super::lints;
use super::options::{Configs, Options};
use super::outline::Parameter;
use super::step::{Base, CopyFrom, ImageName, Step, StepId, StepKind, StepMeta};

/// The plan under construction, shared by all stages.
pub(super) struct Draft<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a Options,
    pub(super) configs: &'a Configs,
    pub(super) globals: Globals,
    pub(super) graph: Graph<'a>,
    pub(super) created: Timestamp,
    pub(super) steps: Vec<Step>,
    /// Steps by inputs, `no_cache` and `max_age`, sorted by kind, to find an equal step instead of adding another.
    by_inputs: BTreeMap<(Vec<StepId>, bool, Option<Duration>), Vec<StepId>>,
    pub(super) problems: Vec<Diagnostic>,
    /// Parameters of the stages, for the outline.
    pub(super) parameters: Vec<Parameter>,
    /// Global arguments that the stages use.
    pub(super) inherited: BTreeSet<String>,
    /// Images whose config is unknown and assumed to be empty.
    pub(super) assumed: BTreeSet<ImageName>,
    /// Arguments that ONBUILD triggers declare.
    pub(super) triggered: BTreeSet<String>,
    /// Bytes of expanded variables so far; [`super::Options::variable_limit`] bounds them.
    pub(super) spent: usize,
}

impl<'a> Draft<'a> {
    /// An empty plan; `problems` are those found before.
    pub(super) fn new(
        dockerfile: &'a Dockerfile,
        options: &'a Options,
        configs: &'a Configs,
        globals: Globals,
        graph: Graph<'a>,
        problems: Vec<Diagnostic>,
    ) -> Self {
        Self {
            dockerfile,
            options,
            configs,
            created: globals.epoch.unwrap_or(Timestamp::EPOCH),
            globals,
            graph,
            steps: Vec::new(),
            by_inputs: BTreeMap::new(),
            problems,
            parameters: Vec::new(),
            inherited: BTreeSet::new(),
            assumed: BTreeSet::new(),
            triggered: BTreeSet::new(),
            spent: 0,
        }
    }

    /// Adds the step that applies `kind` to `inputs`, or returns an equal one that exists already.
    pub(super) fn step(&mut self, kind: StepKind, inputs: Vec<StepId>, meta: StepMeta) -> StepId {
        let equal = self.by_inputs.entry((inputs.clone(), meta.no_cache, meta.max_age)).or_default();
        match equal.binary_search_by(|id| self.steps[id.index()].kind.cmp(&kind)) {
            Ok(at) => equal[at],
            Err(at) => {
                let id = StepId(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
                equal.insert(at, id);
                self.steps.push(Step { id, kind, inputs, meta });
                id
            }
        }
    }

    /// The step that provides `root`: a base, or the last step of a stage.
    pub(super) fn root_step(&mut self, root: &Root, last: &BTreeMap<usize, StepId>, meta: StepMeta) -> Option<StepId> {
        let base = match root {
            Root::Stage(stage) => return last.get(stage).copied(),
            Root::Unknown => return None,
            Root::Scratch => Base::Scratch,
            Root::Image(request) => Base::Image(request.clone()),
            Root::Context(name) => Base::Context(name.clone()),
        };
        // `no_cache` has no effect on a base, so stages with and without it share one.
        Some(self.step(StepKind::Base(base), Vec::new(), StepMeta { no_cache: false, ..meta }))
    }

    /// Where the files of a `--from` come from, and the step to wait for.
    pub(super) fn copy_from(
        &mut self,
        root: &Root,
        last: &BTreeMap<usize, StepId>,
        meta: StepMeta,
    ) -> Option<(CopyFrom, Option<StepId>)> {
        if let Root::Context(name) = root {
            return Some((CopyFrom::Context(name.clone()), None));
        }
        let step = self.root_step(root, last, meta)?;
        Some((CopyFrom::Step(step), Some(step)))
    }

    /// The config that stage `index` starts with, and whether it is only assumed.
    pub(super) fn base_config(&mut self, index: usize) -> (ImageConfig, bool) {
        let node = self.graph.nodes[index].clone();
        let known = match &node.root {
            Root::Image(request) => self.configs.get(&**request),
            _ => None,
        };
        let assumed = known.is_none() && matches!(node.root, Root::Image(_) | Root::Unknown);
        if let (None, Root::Image(request)) = (known, &node.root) {
            self.assumed.insert(request.image.clone());
        }
        let Some(config) = known else {
            let mut config = ImageConfig::scratch(node.platform);
            config.config.working_dir = "/".to_owned();
            return (config, assumed);
        };
        let mut config = config.clone();
        let from = &self.dockerfile.stages[index].from.node;
        lints::base_platform(&from.image, &node.platform, &config.platform, &mut self.problems);
        config.author = None;
        config.created = None;
        config.config.on_build = None;
        if config.history.is_empty() {
            // Every layer needs an entry, or later entries would be attributed to these layers.
            let entry = History { comment: Some("layer of a base without history".to_owned()), ..History::default() };
            config.history = vec![entry; config.rootfs.diff_ids.len()];
        }
        (config, false)
    }

    /// The escape character of the Dockerfile.
    pub(super) fn escape(&self) -> Escape {
        self.dockerfile.escape()
    }
}
