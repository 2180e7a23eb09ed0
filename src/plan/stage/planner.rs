//! The planner of one stage: its state between instructions, and what all instructions share.

use std::collections::BTreeMap;

use crate::base::url::redacted;
use crate::dockerfile::expand::expand;
use crate::dockerfile::{Diagnostic, Escape, Instruction, Severity, Source, Span, Spanned, Statement, Word};
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;
use crate::plan::draft::Draft;
use crate::plan::graph::Root;
use crate::plan::limit::over_variable_limit;
use crate::plan::outline::{Parameter, ParameterKind};
use crate::plan::result::{HISTORY_COMMENT, PlannedHistory};
use crate::plan::scope::Scope;
use crate::plan::step::{ImageRequest, StepId, StepKind, StepMeta};
use crate::plan::trigger::Trigger;
use crate::plan::{lints, paths};

/// The `PATH` of an image that has none (F-13).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The state of a stage so far. A stage that starts from it inherits its final state.
#[derive(Clone, Debug)]
pub(in crate::plan) struct StageState {
    /// Its variables; the config's `env` is derived from them at the end.
    pub(in crate::plan) scope: Scope,
    /// Its image config.
    pub(in crate::plan) config: ImageConfig,
    /// Its platform.
    pub(in crate::plan) platform: Platform,
    /// The base image, possibly through other stages.
    pub(in crate::plan) base: Option<ImageRequest>,
    /// The step that produces the stage's filesystem.
    pub(in crate::plan) last: StepId,
    /// A WORKDIR was seen.
    pub(super) workdir_seen: bool,
    /// The base image's config is unknown, so variables that the file does not define may still exist.
    pub(super) assumed: bool,
}

/// Plans the instructions of one stage in order.
pub(in crate::plan) struct StagePlanner<'p, 'a> {
    pub(in crate::plan) draft: &'p mut Draft<'a>,
    pub(super) index: usize,
    pub(in crate::plan) state: StageState,
    pub(super) entries: Vec<PlannedHistory>,
    pub(super) last: &'p BTreeMap<usize, StepId>,
    /// How many steps the stage has: the `5` in `[2/5]`.
    pub(super) total: usize,
    /// How many steps have a name so far: the `2` in `[2/5]`.
    pub(super) named: usize,
    /// This stage has a CMD, so ENTRYPOINT does not clear it (I-12).
    pub(super) cmd_seen: bool,
    /// The current instruction.
    pub(super) current: CurrentInstruction,
    /// The current instruction uses a variable that the unknown base image may define: its errors are dropped.
    pub(super) unknown: bool,
}

/// The current instruction: where it is and how it reads.
#[derive(Clone)]
pub(super) struct CurrentInstruction {
    pub(super) span: Span,
    pub(super) escape: Escape,
    pub(super) slot: String,
    pub(super) text: String,
    /// Variables that it sets for later instructions.
    pub(super) sets: Vec<String>,
    /// For an ONBUILD trigger, its text and origin.
    pub(super) trigger: Option<(Source, String)>,
}

impl<'p, 'a> StagePlanner<'p, 'a> {
    /// Starts stage `index` from its parent stage's state or from its base image.
    pub(in crate::plan) fn new(
        draft: &'p mut Draft<'a>,
        index: usize,
        triggers: &[Trigger],
        parent: Option<StageState>,
        last: &'p BTreeMap<usize, StepId>,
    ) -> Self {
        let stage = &draft.dockerfile.stages[index];
        let root = draft.graph.nodes[index].root.clone();
        let makes_a_step = |s: &Statement<Instruction>| {
            matches!(s.node, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_))
        };
        let own = match draft.graph.nodes[index].replaced {
            true => 0,
            false => {
                let statements = stage.instructions.iter().chain(triggers.iter().map(|trigger| &trigger.statement));
                statements.filter(|statement| makes_a_step(statement)).count()
            }
        };
        let total = own + usize::from(!matches!(root, Root::Scratch | Root::Stage(_)));
        let current = CurrentInstruction {
            span: stage.from.span,
            escape: draft.escape(),
            slot: String::new(),
            text: String::new(),
            sets: Vec::new(),
            trigger: None,
        };
        let state = match parent {
            Some(parent) => parent.child(),
            None => StageState::empty(draft, index),
        };
        let mut planner = Self {
            draft,
            index,
            state,
            entries: Vec::new(),
            last,
            total,
            named: 0,
            cmd_seen: false,
            current,
            unknown: false,
        };
        if !matches!(root, Root::Stage(_)) {
            planner.start(&root);
        }
        planner
    }

    /// Sets up the filesystem and config of the base.
    fn start(&mut self, root: &Root) {
        let (config, assumed) = self.draft.base_config(self.index);
        let stage = &self.draft.dockerfile.stages[self.index];
        self.current.text = match root {
            Root::Image(request) => format!("FROM {}", request.image),
            _ => stage.from.text.clone(),
        };
        self.current.slot = format!("{}/from", self.stage_slot());
        let named = match root {
            Root::Scratch => "FROM scratch".to_owned(),
            _ => self.next_name(),
        };
        let meta = self.meta(named);
        if let Some(step) = self.draft.root_step(root, self.last, meta) {
            self.state.last = step;
        }
        self.state.assumed = assumed;
        if let Root::Image(request) = root {
            self.state.base = Some((**request).clone());
        }
        for pair in &config.config.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.state.scope.set_env(name, value);
        }
        self.state.config = config;
        self.state.config.config.env = Vec::new();
        if self.state.scope.get("PATH").is_none() && self.state.platform.os != "windows" {
            self.state.scope.set_env("PATH", DEFAULT_PATH);
        }
        let dir = &mut self.state.config.config.working_dir;
        if !dir.is_empty() {
            *dir = paths::workdir("", dir);
        }
    }

    /// The final state, and the history entries of the stage's instructions.
    pub(in crate::plan) fn finish(self) -> (StageState, Vec<PlannedHistory>) {
        (self.state, self.entries)
    }

    pub(super) fn stage_slot(&self) -> String {
        match &self.draft.dockerfile.stages[self.index].name {
            Some(name) => name.node.clone(),
            None => self.index.to_string(),
        }
    }

    /// Expands a word. `None` if that fails, which is reported.
    pub(super) fn expand(&mut self, word: &Word) -> Option<String> {
        match self.try_expand(word) {
            Ok(text) => Some(text),
            Err(problem) => {
                self.report(*problem);
                None
            }
        }
    }

    pub(super) fn try_expand(&mut self, word: &Word) -> Result<String, Box<Diagnostic>> {
        let known = |name: &str| self.state.scope.get(name).map(str::to_owned);
        let expanded = match expand(word, self.current.escape, &known) {
            // `${v:?…}` may refer to a variable of the unknown base image.
            Err(_) if self.state.assumed => {
                let expanded = expand(word, self.current.escape, &|name| known(name).or_else(|| Some("?".to_owned())))?;
                self.unknown = true;
                expanded
            }
            other => other?,
        };
        self.report_unset(&expanded.unset);
        self.spend(expanded.text.len())?;
        Ok(expanded.text)
    }

    /// Counts the bytes of expanded variables. Err, once: they exceed the limit.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Box<Diagnostic>> {
        let Draft { spent, options, .. } = &mut *self.draft;
        let before = *spent;
        *spent += bytes;
        match before <= options.variable_limit && *spent > options.variable_limit {
            true => Err(Box::new(over_variable_limit(self.current.span, options))),
            false => Ok(()),
        }
    }

    /// Records that the current instruction uses a variable that the unknown base image may define.
    pub(super) fn note_unset(&mut self, unset: &[Spanned<String>]) {
        self.unknown |= self.state.assumed && unset.iter().any(|name| !self.state.scope.is_declared(&name.node));
    }

    pub(super) fn report_unset(&mut self, unset: &[Spanned<String>]) {
        self.note_unset(unset);
        if self.state.assumed {
            return;
        }
        let mut found = Vec::new();
        lints::undefined(unset, &self.state.scope, &self.draft.globals, &self.current.sets, &mut found);
        found.into_iter().for_each(|lint| self.report(lint));
    }

    /// Reports a problem of the current instruction.
    pub(super) fn report(&mut self, problem: Diagnostic) {
        if self.unknown && problem.severity == Severity::Error {
            return;
        }
        let problem = match &self.current.trigger {
            Some((source, origin)) => problem.in_source(source).note(format!("this is an ONBUILD trigger of {origin}")),
            None => problem,
        };
        self.draft.problems.push(problem);
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(span, message));
    }

    /// Records a parameter of the current instruction for the outline.
    pub(super) fn add_parameter(&mut self, name: &str, kind: ParameterKind) {
        let parameter = Parameter { kind, name: name.to_owned(), span: self.current.span, stage: self.index };
        self.draft.parameters.push(parameter);
    }

    /// Adds a history entry; `layer` is the step that makes its layer.
    pub(in crate::plan) fn history(&mut self, created_by: String, layer: Option<StepId>) {
        self.entries.push(PlannedHistory { created_by, author: None, comment: HISTORY_COMMENT.to_owned(), layer });
    }

    /// Adds a step on top of the stage's filesystem.
    pub(super) fn push(&mut self, kind: StepKind, others: impl IntoIterator<Item = StepId>, name: String) -> StepId {
        let mut inputs = vec![self.state.last];
        for other in others {
            if !inputs.contains(&other) {
                inputs.push(other);
            }
        }
        let meta = self.meta(name);
        self.state.last = self.draft.step(kind, inputs, meta);
        self.state.last
    }

    pub(super) fn meta(&self, name: String) -> StepMeta {
        let stage = &self.draft.dockerfile.stages[self.index];
        let filter = &self.draft.options.no_cache_filter;
        let filtered = stage.name.as_ref().is_some_and(|n| filter.iter().any(|f| f.eq_ignore_ascii_case(&n.node)))
            || filter.contains(&self.index.to_string());
        let trigger = self.current.trigger.as_ref();
        let origin = trigger.map(|(source, origin)| format!("{} ({origin})", source.text().trim()));
        StepMeta {
            span: self.current.span,
            max_age: self.draft.options.max_age.iter().filter(|limit| limit.is_for(&name)).map(|limit| limit.age).min(),
            name,
            no_cache: self.draft.options.no_cache || filtered,
            stage: self.index,
            slot: self.current.slot.clone(),
            origin,
        }
    }

    /// Names the next step of the stage: `[build 2/5] RUN make`.
    pub(super) fn next_name(&mut self) -> String {
        self.named += 1;
        let stages = &self.draft.dockerfile.stages;
        let stage = match &stages[self.index].name {
            _ if stages.len() == 1 => String::new(),
            Some(name) => format!("{} ", name.node),
            None => format!("stage-{} ", self.index),
        };
        let width = self.total.max(1).ilog10() as usize + 1;
        let onbuild = if self.current.trigger.is_some() { "ONBUILD " } else { "" };
        format!("[{stage}{:>width$}/{}] {onbuild}{}", self.named, self.total, one_line(&self.current.text))
    }
}

/// An instruction on one line: keyword in upper case, credentials in URLs redacted.
fn one_line(text: &str) -> String {
    let mut words = text.split_whitespace();
    let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
    words.fold(keyword, |line, word| line + " " + &redacted(word))
}

impl StageState {
    fn empty(draft: &Draft<'_>, index: usize) -> Self {
        let platform = draft.graph.nodes[index].platform.clone();
        Self {
            scope: Scope::default(),
            config: ImageConfig::scratch(platform.clone()),
            platform,
            base: None,
            last: StepId(0),
            workdir_seen: false,
            assumed: false,
        }
    }

    fn child(mut self) -> Self {
        self.scope = self.scope.inherited();
        self.config.config.on_build = None;
        self
    }
}
