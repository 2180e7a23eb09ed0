//! Makes the plan: resolves stages, finds those that the target needs, then plans each of them in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Severity, Span};
use crate::oci::platform::Platform;

use super::draft::Draft;
use super::globals::{self, Globals};
use super::graph::{Root, graph};
use super::options::{Configs, Options};
use super::outline;
use super::reach::Reach;
use super::result::{Plan, Planned, PlannedHistory, PlannedStage, StageSummary};
use super::stage::{StagePlanner, StageState};
use super::step::{ContextName, StepId};
use super::trigger::Trigger;

/// Plans a build. Ok(`Needs`): fetch the configs of these images and call again. Ok(`Done`): the plan is complete.
/// Err: all problems found, errors and warnings, in the order of the Dockerfile.
pub fn plan(dockerfile: &Dockerfile, options: &Options, configs: &Configs) -> Result<Planned, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let globals = Globals::new(dockerfile, options, &mut problems);
    let graph = graph(dockerfile, options, &globals, &mut problems);
    let target = graph.target().map_err(|problem| problems.push(*problem));
    let Ok(target) = target else { return Err(sorted(problems)) };
    let mut reach = Reach::default();
    // After an error, planning goes on to report errors in instructions too, but requests no image configs.
    let assuming;
    let options = match has_errors(&problems) {
        true => {
            assuming = Options { assume_bases: true, ..options.clone() };
            &assuming
        }
        false => options,
    };
    reach.walk(dockerfile, options, configs, &graph, target, &mut problems);
    if !reach.needs.is_empty() && !has_errors(&problems) {
        return Ok(Planned::Needs(reach.needs));
    }
    let draft = Draft::new(dockerfile, options, configs, globals, graph, problems);
    Planner { draft, states: BTreeMap::new(), last: BTreeMap::new(), histories: BTreeMap::new() }.run(reach, target)
}

/// Sets the platform of an image to the requested one. Details that only the base image states are kept if the base has
/// the same OS and architecture.
fn set_platform(image: &mut Platform, wanted: &Platform) {
    let same = (&image.os, &image.architecture) == (&wanted.os, &wanted.architecture);
    image.os.clone_from(&wanted.os);
    image.architecture.clone_from(&wanted.architecture);
    if wanted.variant.is_some() || !same {
        image.variant.clone_from(&wanted.variant);
    }
    if wanted.os_version.is_some() || !same {
        image.os_version.clone_from(&wanted.os_version);
    }
    if !wanted.os_features.is_empty() {
        image.os_features.clone_from(&wanted.os_features);
    }
}

fn has_errors(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|p| p.severity == Severity::Error)
}

fn sorted(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    problems.sort_by_key(|p| (p.span, p.severity));
    // A trigger that fires in several stages reports each problem repeatedly. One error per span is enough: others come
    // from checking the same words again.
    let mut seen = BTreeSet::new();
    problems.retain(|p| {
        let source = p.source.as_ref().map(|source| source.name().to_owned());
        let message = if p.severity == Severity::Error && !p.span.is_empty() { "" } else { &p.message };
        seen.insert((p.span, p.severity, source, message.to_owned()))
    });
    // An error in a FROM makes these warnings about the same words redundant.
    let of_from = |code: &str| matches!(code, "InvalidDefaultArgInFrom" | "UndefinedArgInFrom");
    let wrong: Vec<Span> = problems.iter().filter(|p| p.severity == Severity::Error).map(|p| p.span).collect();
    problems.retain(|p| {
        let before = wrong.partition_point(|span| span.start <= p.span.start).checked_sub(1);
        let inside = before.is_some_and(|at| p.span.start < wrong[at].end);
        !inside || !p.code.is_some_and(of_from)
    });
    problems
}

/// The history entries of a stage's own instructions, and the stage that it starts from.
struct StageHistory {
    below: Option<usize>,
    entries: Vec<PlannedHistory>,
}

/// Plans the needed stages in order.
struct Planner<'a> {
    draft: Draft<'a>,
    /// Final states of stages, for the stages that start from them.
    states: BTreeMap<usize, StageState>,
    /// The last step of each stage.
    last: BTreeMap<usize, StepId>,
    histories: BTreeMap<usize, StageHistory>,
}

impl Planner<'_> {
    fn run(mut self, mut reach: Reach, target: usize) -> Result<Planned, Vec<Diagnostic>> {
        let mut children = vec![0usize; self.draft.graph.nodes.len()];
        for below in reach.stages.keys().filter_map(|index| self.below(*index)) {
            children[below] += 1;
        }
        let mut stages = Vec::new();
        for (index, triggers) in std::mem::take(&mut reach.stages) {
            // The last child takes its parent's state instead of cloning it: chains of stages may be long.
            let parent = self.below(index).and_then(|below| {
                children[below] -= 1;
                if children[below] == 0 && below != target {
                    self.states.remove(&below)
                } else {
                    self.states.get(&below).cloned()
                }
            });
            stages.push(self.stage(index, parent, &triggers));
        }
        let unused_args = self.unused_args();
        let Some(state) = self.states.remove(&target).filter(|_| !has_errors(&self.draft.problems)) else {
            return Err(sorted(self.draft.problems));
        };
        let image = self.image(target, state);
        let draft = self.draft;
        let mut parameters = draft.globals.parameters(draft.dockerfile, draft.inherited);
        parameters.extend(draft.parameters);
        Ok(Planned::Done(Box::new(Plan {
            assumed: draft.assumed,
            outline: outline::outline(draft.dockerfile, target, parameters),
            steps: draft.steps,
            stages,
            image,
            created: draft.created,
            clamp: draft.globals.epoch,
            warnings: sorted(draft.problems),
            unused_args,
        })))
    }

    /// The stage that a stage starts from.
    fn below(&self, index: usize) -> Option<usize> {
        match self.draft.graph.nodes[index].root {
            Root::Stage(below) => Some(below),
            _ => None,
        }
    }

    /// Plans one stage: its base, its triggers, its instructions.
    fn stage(&mut self, index: usize, parent: Option<StageState>, triggers: &[Trigger]) -> StageSummary {
        let node = &mut self.draft.graph.nodes[index];
        self.draft.inherited.extend(node.used.iter().cloned());
        self.draft.problems.append(&mut node.lints);
        let node = node.clone();
        let mut planner = StagePlanner::new(&mut self.draft, index, triggers, parent, &self.last);
        if let Root::Context(ContextName::Named(name)) = &node.root {
            // The files of the context are a layer, and every layer needs an entry.
            let layer = planner.state.last;
            planner.history(format!("FROM {name}"), Some(layer));
        }
        if !node.replaced {
            for (ordinal, trigger) in triggers.iter().enumerate() {
                planner.trigger(trigger, ordinal);
            }
            let dockerfile = planner.draft.dockerfile;
            for (ordinal, statement) in dockerfile.stages[index].instructions.iter().enumerate() {
                planner.instruction(statement, ordinal);
            }
        }
        let (state, entries) = planner.finish();
        let summary = StageSummary {
            name: self.draft.dockerfile.stages[index].name.as_ref().map(|n| n.node.clone()),
            index,
            platform: state.platform.clone(),
            base: state.base.clone(),
            last: state.last,
        };
        self.last.insert(index, state.last);
        self.histories.insert(index, StageHistory { below: self.below(index), entries });
        self.states.insert(index, state);
        summary
    }

    fn image(&self, target: usize, state: StageState) -> PlannedStage {
        let mut history = Vec::new();
        let mut at = Some(target);
        while let Some(own) = at.and_then(|index| self.histories.get(&index)) {
            history.extend(own.entries.iter().rev().cloned());
            at = own.below;
        }
        history.reverse();
        let StageState { scope, mut config, platform, base, last, .. } = state;
        config.config.env = scope.config_env();
        config.created = Some(self.draft.created);
        if self.draft.options.platform_given {
            set_platform(&mut config.platform, &self.draft.options.platform);
        }
        config.platform = config.platform.normalized();
        config.config.labels.extend(self.draft.options.labels.clone());
        let stage = &self.draft.dockerfile.stages[target];
        PlannedStage {
            name: stage.name.as_ref().map(|name| name.node.clone()),
            index: target,
            platform,
            base,
            last,
            config,
            history,
        }
    }

    /// Build arguments that no ARG declares and that are not predefined, each with the name that was probably
    /// meant.
    fn unused_args(&self) -> BTreeMap<String, Option<String>> {
        let globals = self.draft.dockerfile.global_args.iter().flat_map(|s| &s.node.items);
        let stages = self.draft.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let local = stages.filter_map(|statement| match &statement.node {
            Instruction::Arg(arg) => Some(&arg.items),
            _ => None,
        });
        let known: BTreeSet<&str> = globals.chain(local.flatten()).map(|item| item.name.as_str()).collect();
        let given = self.draft.options.build_args.keys();
        given
            .filter(|name| {
                !known.contains(name.as_str()) && !self.draft.triggered.contains(*name) && !globals::is_predefined(name)
            })
            .map(|name| {
                let meant = crate::dockerfile::suggest::nearest(name, known.iter().copied());
                (name.clone(), meant.map(str::to_owned))
            })
            .collect()
    }
}
