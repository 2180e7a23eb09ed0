//! A place in a stage: what the next instruction works on, and what all instructions do.

use std::collections::BTreeMap;

use crate::base::url::redacted;
use crate::dockerfile::expand::expand;
use crate::dockerfile::{Diagnostic, Escape, Instruction, Severity, Source, Span, Spanned, Statement, Word};
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;
use crate::plan::draft::Draft;
use crate::plan::graph::Root;
use crate::plan::limit::too_much;
use crate::plan::outline::{Taken, What};
use crate::plan::result::{HISTORY_COMMENT, PlannedHistory};
use crate::plan::scope::Scope;
use crate::plan::step::{ImageRequest, StepId, StepKind, StepMeta};
use crate::plan::trigger::Trigger;
use crate::plan::{lints, paths};

/// The `PATH` of an image that has none (F-13).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage has become so far; what a stage that starts from it begins with.
#[derive(Clone, Debug)]
pub(in crate::plan) struct StageState {
    /// Its variables. The config's `env` is written from here at the end.
    pub(in crate::plan) scope: Scope,
    /// Its config.
    pub(in crate::plan) config: ImageConfig,
    /// What it is for.
    pub(in crate::plan) platform: Platform,
    /// The image at the bottom.
    pub(in crate::plan) base: Option<ImageRequest>,
    /// The step whose filesystem is the stage's.
    pub(in crate::plan) last: StepId,
    /// A WORKDIR was seen.
    pub(super) workdir_seen: bool,
    /// The base's config is not known: nothing can be said about its variables.
    pub(super) assumed: bool,
}

/// A place in a stage: what the next instruction works on.
pub(in crate::plan) struct Place<'p, 'a> {
    pub(in crate::plan) draft: &'p mut Draft<'a>,
    pub(super) index: usize,
    pub(in crate::plan) state: StageState,
    pub(super) entries: Vec<PlannedHistory>,
    pub(super) last: &'p BTreeMap<usize, StepId>,
    /// How many steps the stage's names promise, and how many were named.
    pub(super) total: usize,
    pub(super) named: usize,
    /// CMD was seen in this stage (I-12).
    pub(super) cmd_seen: bool,
    /// The instruction at hand.
    pub(super) here: Here,
    /// It uses a variable that only the base image, which nobody has, can tell: its errors are nobody's.
    pub(super) unknown: bool,
}

/// Where an instruction stands.
#[derive(Clone)]
pub(super) struct Here {
    pub(super) span: Span,
    pub(super) escape: Escape,
    pub(super) slot: String,
    pub(super) text: String,
    /// Variables that the instruction sets for those after it.
    pub(super) sets: Vec<String>,
    /// The trigger's text and its origin.
    pub(super) trigger: Option<(Source, String)>,
}

impl<'p, 'a> Place<'p, 'a> {
    /// The start of stage `index`, from its parent's state or from its base.
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
        let here = Here {
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
        let mut place = Self {
            draft,
            index,
            state,
            entries: Vec::new(),
            last,
            total,
            named: 0,
            cmd_seen: false,
            here,
            unknown: false,
        };
        if !matches!(root, Root::Stage(_)) {
            place.start(&root);
        }
        place
    }

    /// Takes the base's filesystem and config.
    fn start(&mut self, root: &Root) {
        let (config, assumed) = self.draft.base_config(self.index);
        let stage = &self.draft.dockerfile.stages[self.index];
        self.here.text = match root {
            Root::Image(request) => format!("FROM {}", request.image),
            _ => stage.from.text.clone(),
        };
        self.here.slot = format!("{}/from", self.stage_slot());
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

    /// The stage's end, and the history that its instructions made.
    pub(in crate::plan) fn finish(self) -> (StageState, Vec<PlannedHistory>) {
        (self.state, self.entries)
    }

    pub(super) fn stage_slot(&self) -> String {
        match &self.draft.dockerfile.stages[self.index].name {
            Some(name) => name.node.clone(),
            None => self.index.to_string(),
        }
    }

    /// The value of a word here. Nothing if it cannot be read, which is reported.
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
        let expanded = match expand(word, self.here.escape, &known) {
            // `${v:?…}` of a variable that the base may have.
            Err(_) if self.state.assumed => {
                let expanded = expand(word, self.here.escape, &|name| known(name).or_else(|| Some("?".to_owned())))?;
                self.unknown = true;
                expanded
            }
            other => other?,
        };
        self.report_unset(&expanded.unset);
        self.spend(expanded.text.len())?;
        Ok(expanded.text)
    }

    /// Counts what variables take. Err, once: it is too much.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Box<Diagnostic>> {
        let Draft { spent, options, .. } = &mut *self.draft;
        let before = *spent;
        *spent += bytes;
        match before <= options.variable_limit && *spent > options.variable_limit {
            true => Err(Box::new(too_much(self.here.span, options))),
            false => Ok(()),
        }
    }

    /// Remembers that the instruction at hand uses a variable which only the base, that nobody has, can tell.
    pub(super) fn note_unset(&mut self, unset: &[Spanned<String>]) {
        self.unknown |= self.state.assumed && unset.iter().any(|name| !self.state.scope.is_declared(&name.node));
    }

    pub(super) fn report_unset(&mut self, unset: &[Spanned<String>]) {
        self.note_unset(unset);
        if self.state.assumed {
            return;
        }
        let mut found = Vec::new();
        lints::undefined(unset, &self.state.scope, &self.draft.globals, &self.here.sets, &mut found);
        found.into_iter().for_each(|lint| self.report(lint));
    }

    /// Adds a problem of the instruction at hand.
    pub(super) fn report(&mut self, problem: Diagnostic) {
        if self.unknown && problem.severity == Severity::Error {
            return;
        }
        let problem = match &self.here.trigger {
            Some((source, origin)) => problem.in_source(source).note(format!("this is an ONBUILD trigger of {origin}")),
            None => problem,
        };
        self.draft.problems.push(problem);
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(span, message));
    }

    /// Notes what the instruction at hand takes from outside.
    pub(super) fn take(&mut self, name: &str, what: What) {
        let taken = Taken { what, name: name.to_owned(), span: self.here.span, stage: self.index };
        self.draft.taken.push(taken);
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
        let origin = self.here.trigger.as_ref().map(|(source, origin)| format!("{} ({origin})", source.text().trim()));
        StepMeta {
            span: self.here.span,
            name,
            no_cache: self.draft.options.no_cache || filtered,
            stage: self.index,
            slot: self.here.slot.clone(),
            origin,
        }
    }

    /// `[build 2/5] RUN make`: the next name of the stage.
    pub(super) fn next_name(&mut self) -> String {
        self.named += 1;
        let stages = &self.draft.dockerfile.stages;
        let stage = match &stages[self.index].name {
            _ if stages.len() == 1 => String::new(),
            Some(name) => format!("{} ", name.node),
            None => format!("stage-{} ", self.index),
        };
        let width = self.total.max(1).ilog10() as usize + 1;
        let onbuild = if self.here.trigger.is_some() { "ONBUILD " } else { "" };
        format!("[{stage}{:>width$}/{}] {onbuild}{}", self.named, self.total, one_line(&self.here.text))
    }
}

/// A command on one line, its keyword in upper case.
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
