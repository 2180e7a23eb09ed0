//! One stage: its instructions, in order, as steps and as changes to its config.
//!
//! **Holds.** What every instruction shares: where it stands, expansion, history, steps. What each one does:
//! `config` (those that only describe), `run`, `mounts`, `copy`.

mod config;
mod copy;
mod mounts;
mod run;

use std::collections::BTreeMap;

use crate::dockerfile::expand::expand;
use crate::dockerfile::{Diagnostic, Escape, Instruction, Severity, Source, Span, Spanned, Statement, Word};
use crate::oci::config::ImageConfig;
use crate::oci::platform::Platform;

use super::graph::Root;
use super::outline::{Taken, What};
use super::planner::{DEFAULT_PATH, Planner, Trigger, too_much};
use super::scope::Scope;
use super::step::{ImageRequest, StepId, StepKind, StepMeta};
use super::{HISTORY_COMMENT, PlannedHistory, lints, remote};

/// What a stage has become so far; what a stage that starts from it begins with.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    /// Its variables. The config's `env` is written from here at the end.
    pub(super) scope: Scope,
    /// Its config.
    pub(super) config: ImageConfig,
    /// What it is for.
    pub(super) platform: Platform,
    /// The image at the bottom.
    pub(super) base: Option<ImageRequest>,
    /// The step whose filesystem is the stage's.
    pub(super) last: StepId,
    /// A WORKDIR was seen.
    workdir_seen: bool,
    /// The base's config is not known: nothing can be said about its variables.
    assumed: bool,
}

/// A place in a stage: what the next instruction works on.
pub(super) struct Place<'p, 'a> {
    pub(super) planner: &'p mut Planner<'a>,
    index: usize,
    pub(super) state: StageState,
    entries: Vec<PlannedHistory>,
    last: &'p BTreeMap<usize, StepId>,
    /// How many steps the stage's names promise, and how many were named.
    total: usize,
    named: usize,
    /// CMD was seen in this stage (I-12).
    cmd_seen: bool,
    /// The instruction at hand.
    here: Here,
    /// It uses a variable that only the base image, which nobody has, can tell: its errors are nobody's.
    unknown: bool,
}

/// Where an instruction stands.
#[derive(Clone)]
struct Here {
    span: Span,
    escape: Escape,
    slot: String,
    text: String,
    /// Variables that the instruction sets for those after it.
    sets: Vec<String>,
    /// The trigger's text and its origin.
    trigger: Option<(Source, String)>,
}

impl<'p, 'a> Place<'p, 'a> {
    /// The start of stage `index`, from its parent's state or from its base.
    pub(super) fn new(
        planner: &'p mut Planner<'a>,
        index: usize,
        triggers: &[Trigger],
        parent: Option<StageState>,
        last: &'p BTreeMap<usize, StepId>,
    ) -> Self {
        let stage = &planner.dockerfile.stages[index];
        let root = planner.graph.nodes[index].root.clone();
        let makes_a_step = |s: &Statement<Instruction>| {
            matches!(s.node, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_))
        };
        let own = match planner.graph.nodes[index].replaced {
            true => 0,
            false => {
                let statements = stage.instructions.iter().chain(triggers.iter().map(|trigger| &trigger.statement));
                statements.filter(|statement| makes_a_step(statement)).count()
            }
        };
        let total = own + usize::from(!matches!(root, Root::Scratch | Root::Stage(_)));
        let here = Here {
            span: stage.from.span,
            escape: planner.escape(),
            slot: String::new(),
            text: String::new(),
            sets: Vec::new(),
            trigger: None,
        };
        let state = match parent {
            Some(parent) => parent.child(),
            None => StageState::empty(planner, index),
        };
        let mut place = Self {
            planner,
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
        let (config, assumed) = self.planner.base_config(self.index);
        let stage = &self.planner.dockerfile.stages[self.index];
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
        if let Some(step) = self.planner.root_step(root, self.last, meta) {
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
            *dir = super::paths::workdir("", dir);
        }
    }

    /// Does what an ONBUILD trigger says. Spans index the trigger's own text; `\` is its escape (I-13).
    pub(super) fn trigger(&mut self, trigger: &Trigger, ordinal: usize) {
        self.here = Here {
            span: self.planner.dockerfile.stages[self.index].from.span,
            escape: Escape::Backslash,
            slot: format!("{}/onbuild-{ordinal}", self.stage_slot()),
            text: trigger.statement.text.clone(),
            sets: Vec::new(),
            trigger: Some((trigger.source.clone(), trigger.origin.clone())),
        };
        self.dispatch(&trigger.statement);
    }

    /// Does what an instruction of the stage says.
    pub(super) fn instruction(&mut self, statement: &Statement<Instruction>, ordinal: usize) {
        self.here = Here {
            span: statement.span,
            escape: self.planner.escape(),
            slot: format!("{}/{ordinal}", self.stage_slot()),
            text: statement.text.clone(),
            sets: Vec::new(),
            trigger: None,
        };
        self.dispatch(statement);
    }

    /// The stage's end, and the history that its instructions made.
    pub(super) fn finish(self) -> (StageState, Vec<PlannedHistory>) {
        (self.state, self.entries)
    }

    fn dispatch(&mut self, statement: &Statement<Instruction>) {
        self.unknown = false;
        if self.planner.spent > self.planner.options.variable_limit {
            return;
        }
        match &statement.node {
            Instruction::Run(run) => self.run(run),
            Instruction::Copy(copy) => self.copy(copy, false),
            Instruction::Add(copy) => self.copy(copy, true),
            other => self.describe(other),
        }
    }

    fn stage_slot(&self) -> String {
        match &self.planner.dockerfile.stages[self.index].name {
            Some(name) => name.node.clone(),
            None => self.index.to_string(),
        }
    }

    /// The value of a word here. Nothing if it cannot be read, which is reported.
    fn expand(&mut self, word: &Word) -> Option<String> {
        match self.try_expand(word) {
            Ok(text) => Some(text),
            Err(problem) => {
                self.report(*problem);
                None
            }
        }
    }

    fn try_expand(&mut self, word: &Word) -> Result<String, Box<Diagnostic>> {
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
    fn spend(&mut self, bytes: usize) -> Result<(), Box<Diagnostic>> {
        let Planner { spent, options, .. } = &mut *self.planner;
        let before = *spent;
        *spent += bytes;
        match before <= options.variable_limit && *spent > options.variable_limit {
            true => Err(Box::new(too_much(self.here.span, options))),
            false => Ok(()),
        }
    }

    /// Remembers that the instruction at hand uses a variable which only the base, that nobody has, can tell.
    fn note_unset(&mut self, unset: &[Spanned<String>]) {
        self.unknown |= self.state.assumed && unset.iter().any(|name| !self.state.scope.is_declared(&name.node));
    }

    fn report_unset(&mut self, unset: &[Spanned<String>]) {
        self.note_unset(unset);
        if self.state.assumed {
            return;
        }
        let mut found = Vec::new();
        lints::undefined(unset, &self.state.scope, &self.planner.globals, &self.here.sets, &mut found);
        found.into_iter().for_each(|lint| self.report(lint));
    }

    /// Adds a problem of the instruction at hand.
    fn report(&mut self, problem: Diagnostic) {
        if self.unknown && problem.severity == Severity::Error {
            return;
        }
        let problem = match &self.here.trigger {
            Some((source, origin)) => problem.in_source(source).note(format!("this is an ONBUILD trigger of {origin}")),
            None => problem,
        };
        self.planner.problems.push(problem);
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(span, message));
    }

    /// Notes what the instruction at hand takes from outside.
    fn take(&mut self, name: &str, what: What) {
        let taken = Taken { what, name: name.to_owned(), span: self.here.span, stage: self.index };
        self.planner.taken.push(taken);
    }

    /// Adds a history entry; `layer` is the step that makes its layer.
    pub(super) fn history(&mut self, created_by: String, layer: Option<StepId>) {
        self.entries.push(PlannedHistory { created_by, author: None, comment: HISTORY_COMMENT.to_owned(), layer });
    }

    /// Adds a step on top of the stage's filesystem.
    fn push(&mut self, kind: StepKind, others: impl IntoIterator<Item = StepId>, name: String) -> StepId {
        let mut inputs = vec![self.state.last];
        for other in others {
            if !inputs.contains(&other) {
                inputs.push(other);
            }
        }
        let meta = self.meta(name);
        self.state.last = self.planner.step(kind, inputs, meta);
        self.state.last
    }

    fn meta(&self, name: String) -> StepMeta {
        let stage = &self.planner.dockerfile.stages[self.index];
        let filter = &self.planner.options.no_cache_filter;
        let filtered = stage.name.as_ref().is_some_and(|n| filter.iter().any(|f| f.eq_ignore_ascii_case(&n.node)))
            || filter.contains(&self.index.to_string());
        let origin = self.here.trigger.as_ref().map(|(source, origin)| format!("{} ({origin})", source.text().trim()));
        StepMeta {
            span: self.here.span,
            name,
            no_cache: self.planner.options.no_cache || filtered,
            stage: self.index,
            slot: self.here.slot.clone(),
            origin,
        }
    }

    /// `[build 2/5] RUN make`: the next name of the stage.
    fn next_name(&mut self) -> String {
        self.named += 1;
        let stages = &self.planner.dockerfile.stages;
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
    words.fold(keyword, |line, word| line + " " + &remote::redact(word))
}

impl StageState {
    fn empty(planner: &Planner<'_>, index: usize) -> Self {
        let platform = planner.graph.nodes[index].platform.clone();
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
