//! The walk: which stages are needed, then each of them in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;
use crate::dockerfile::{
    Diagnostic, Dockerfile, Escape, Instruction, Severity, Source, Span, Statement, parse_trigger,
};
use crate::oci::config::{History, ImageConfig};
use crate::oci::platform::Platform;

use super::globals::{self, Globals};
use super::graph::{Graph, Root, froms};
use super::lints;
use super::outline::{self, Taken};
use super::stage::{Place, StageState};
use super::step::{Base, ContextName, CopyFrom, ImageName, ImageRequest, Step, StepId, StepKind, StepMeta};
use super::{Options, Plan, Planned, PlannedHistory, PlannedStage, StageSummary};

/// The `PATH` of an image that has none (F-13).
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configs of images, as far as they are known.
pub type Configs = BTreeMap<ImageRequest, ImageConfig>;

/// Plans a build. Ok(`Needs`): resolve these images and ask again. Ok(`Done`): every name a step needs is in the plan.
/// Err: every problem that was found, errors and warnings, in the order of the Dockerfile.
pub fn plan(dockerfile: &Dockerfile, options: &Options, configs: &Configs) -> Result<Planned, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let globals = Globals::new(dockerfile, options, &mut problems);
    let graph = Graph::new(dockerfile, options, &globals, &mut problems);
    let target = graph.target().map_err(|problem| problems.push(*problem));
    let Ok(target) = target else { return Err(sorted(problems)) };
    let mut reach = Reach::default();
    // What is wrong with stages and names does not hide what is wrong with instructions; but then nothing is looked up.
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
    let mut planner = Planner {
        dockerfile,
        options,
        configs,
        globals,
        graph,
        created: Timestamp::EPOCH,
        steps: Vec::new(),
        same: BTreeMap::new(),
        problems,
        taken: Vec::new(),
        inherited: BTreeSet::new(),
        assumed: BTreeSet::new(),
        triggered: BTreeSet::new(),
        spent: 0,
    };
    planner.created = planner.globals.epoch.unwrap_or(Timestamp::EPOCH);
    planner.run(reach, target)
}

/// Makes an image say that it is for the platform that was asked for. What only its base knows stays, unless the base
/// is for something else.
fn say_platform(image: &mut Platform, wanted: &Platform) {
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

/// What is said when variables take more than [`Options::variable_limit`].
pub(super) fn too_much(span: Span, options: &Options) -> Diagnostic {
    let limit = options.variable_limit >> 20;
    let problem = Diagnostic::error(span, format!("the variables of this file take more than {limit} MiB"));
    problem.hint("a variable that is made of itself grows with every line")
}

fn has_errors(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|p| p.severity == Severity::Error)
}

fn sorted(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    problems.sort_by_key(|p| (p.span, p.severity));
    // A trigger that fires in several stages says everything as often. One error at a place is enough: further ones come
    // from looking at it again.
    let mut said = BTreeSet::new();
    problems.retain(|p| {
        let source = p.source.as_ref().map(|source| source.name().to_owned());
        let message = if p.severity == Severity::Error && !p.span.is_empty() { "" } else { &p.message };
        said.insert((p.span, p.severity, source, message.to_owned()))
    });
    // An error of a FROM says all that these would say.
    let of_from = |code: &str| matches!(code, "InvalidDefaultArgInFrom" | "UndefinedArgInFrom");
    let wrong: Vec<Span> = problems.iter().filter(|p| p.severity == Severity::Error).map(|p| p.span).collect();
    problems.retain(|p| {
        let before = wrong.partition_point(|span| span.start <= p.span.start).checked_sub(1);
        let inside = before.is_some_and(|at| p.span.start < wrong[at].end);
        !inside || !p.code.is_some_and(of_from)
    });
    problems
}

/// An ONBUILD trigger that fires in a stage (I-13).
pub(super) struct Trigger {
    /// What it says.
    pub(super) statement: Statement<Instruction>,
    /// The text that its spans index.
    pub(super) source: Source,
    /// Whence it came: an image or a stage.
    pub(super) origin: String,
}

/// The stages that are needed, and the triggers that fire in them.
#[derive(Default)]
struct Reach {
    stages: BTreeMap<usize, Vec<Trigger>>,
    needs: BTreeSet<ImageRequest>,
}

impl Reach {
    /// Follows FROM, `--from` and `from=` of every stage from the target on, triggers included.
    fn walk(
        &mut self,
        dockerfile: &Dockerfile,
        options: &Options,
        configs: &Configs,
        graph: &Graph<'_>,
        target: usize,
        problems: &mut Vec<Diagnostic>,
    ) {
        let mut todo = vec![target];
        if options.all_stages {
            todo.extend(0..graph.nodes.len());
        }
        while let Some(index) = todo.pop() {
            if self.stages.contains_key(&index) {
                continue;
            }
            let node = &graph.nodes[index];
            let triggers = match &node.root {
                Root::Stage(below) => {
                    todo.push(*below);
                    stage_triggers(dockerfile, configs, graph, *below)
                }
                Root::Image(request) => match configs.get(&**request) {
                    Some(config) if !node.replaced => image_triggers(request, config),
                    Some(_) => Vec::new(),
                    None if options.assume_bases => Vec::new(),
                    None => {
                        self.needs.insert((**request).clone());
                        Vec::new()
                    }
                },
                Root::Scratch | Root::Context(_) | Root::Unknown => Vec::new(),
            };
            let triggers = parse_triggers(triggers, problems);
            if !node.replaced {
                let own = dockerfile.stages[index].instructions.iter();
                for statement in own.chain(triggers.iter().map(|t| &t.statement)) {
                    for (word, number) in froms(&statement.node) {
                        // What is wrong with the others is said when the stage is planned.
                        if let Ok(Root::Stage(other)) = graph.from(word, index, number) {
                            todo.push(other);
                        }
                    }
                }
            }
            self.stages.insert(index, triggers);
        }
    }
}

fn stage_triggers(
    dockerfile: &Dockerfile,
    configs: &Configs,
    graph: &Graph<'_>,
    below: usize,
) -> Vec<(String, String)> {
    if graph.nodes[below].replaced {
        return match &graph.nodes[below].root {
            Root::Image(request) => configs.get(&**request).map_or(Vec::new(), |c| image_triggers(request, c)),
            _ => Vec::new(),
        };
    }
    let stage = &dockerfile.stages[below];
    let name = stage.name.as_ref().map_or_else(|| below.to_string(), |name| name.node.clone());
    let onbuild = |statement: &Statement<Instruction>| match &statement.node {
        Instruction::Onbuild(onbuild) => Some((onbuild.trigger.text.clone(), format!("stage `{name}`"))),
        _ => None,
    };
    stage.instructions.iter().filter_map(onbuild).collect()
}

fn image_triggers(request: &ImageRequest, config: &ImageConfig) -> Vec<(String, String)> {
    let texts = config.config.on_build.iter().flatten();
    texts.map(|text| (text.clone(), format!("image {}", request.image))).collect()
}

fn parse_triggers(texts: Vec<(String, String)>, problems: &mut Vec<Diagnostic>) -> Vec<Trigger> {
    let mut out = Vec::new();
    for (text, origin) in texts {
        let source = Source::new(format!("ONBUILD of {origin}"), &text);
        match parse_trigger(&source) {
            Ok(statement) => out.push(Trigger { statement, source, origin }),
            Err(found) => {
                let note = format!("this is an ONBUILD trigger of {origin}");
                problems.extend(found.into_iter().map(|problem| problem.in_source(&source).note(note.clone())));
            }
        }
    }
    out
}

/// What all stages share while they are planned.
pub(super) struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a Options,
    pub(super) configs: &'a Configs,
    pub(super) globals: Globals,
    pub(super) graph: Graph<'a>,
    pub(super) created: Timestamp,
    steps: Vec<Step>,
    /// Steps by their inputs, in the order of what they do: a second one that does the same is the same.
    same: BTreeMap<(Vec<StepId>, bool), Vec<StepId>>,
    pub(super) problems: Vec<Diagnostic>,
    /// What the stages take from outside.
    pub(super) taken: Vec<Taken>,
    /// Global arguments that stages take over.
    pub(super) inherited: BTreeSet<String>,
    /// Images whose config nobody gave.
    assumed: BTreeSet<ImageName>,
    /// Arguments that ONBUILD triggers declare.
    pub(super) triggered: BTreeSet<String>,
    /// How much of [`Options::variable_limit`] is gone.
    pub(super) spent: usize,
}

/// The history that a stage's own instructions made, and the stage below it.
struct Chapter {
    below: Option<usize>,
    entries: Vec<PlannedHistory>,
}

impl Planner<'_> {
    fn run(mut self, mut reach: Reach, target: usize) -> Result<Planned, Vec<Diagnostic>> {
        let mut children = vec![0usize; self.graph.nodes.len()];
        for index in reach.stages.keys() {
            if let Root::Stage(below) = self.graph.nodes[*index].root {
                children[below] += 1;
            }
        }
        let needed: Vec<usize> = reach.stages.keys().copied().collect();
        let mut states: BTreeMap<usize, StageState> = BTreeMap::new();
        let mut last: BTreeMap<usize, StepId> = BTreeMap::new();
        let mut chapters: BTreeMap<usize, Chapter> = BTreeMap::new();
        let mut summaries = Vec::new();
        for index in needed {
            let node = &mut self.graph.nodes[index];
            self.inherited.extend(node.used.iter().cloned());
            self.problems.append(&mut node.lints);
            let triggers = reach.stages.remove(&index).unwrap_or_default();
            let below = match self.graph.nodes[index].root {
                Root::Stage(below) => Some(below),
                _ => None,
            };
            // The last child takes its parent's state: a chain of ten thousand stages copies nothing.
            let parent = below.and_then(|below| {
                children[below] -= 1;
                if children[below] == 0 && below != target {
                    states.remove(&below)
                } else {
                    states.get(&below).cloned()
                }
            });
            let (state, entries) = self.stage(index, parent, &triggers, &last);
            last.insert(index, state.last);
            summaries.push(StageSummary {
                name: self.dockerfile.stages[index].name.as_ref().map(|n| n.node.clone()),
                index,
                platform: state.platform.clone(),
                base: state.base.clone(),
                last: state.last,
            });
            chapters.insert(index, Chapter { below, entries });
            states.insert(index, state);
        }
        let unused_args = self.unused_args();
        if has_errors(&self.problems) {
            return Err(sorted(self.problems));
        }
        let Some(state) = states.remove(&target) else { return Err(sorted(self.problems)) };
        let image = self.image(target, state, &chapters);
        let mut taken = self.globals.taken(self.dockerfile, self.inherited);
        taken.extend(self.taken);
        let plan = Plan {
            assumed: self.assumed,
            outline: outline::outline(self.dockerfile, target, taken),
            steps: self.steps,
            stages: summaries,
            image,
            created: self.created,
            clamp: self.globals.epoch,
            warnings: sorted(self.problems),
            unused_args,
        };
        Ok(Planned::Done(Box::new(plan)))
    }

    /// Plans one stage: its base, its triggers, its instructions.
    fn stage(
        &mut self,
        index: usize,
        parent: Option<StageState>,
        triggers: &[Trigger],
        last: &BTreeMap<usize, StepId>,
    ) -> (StageState, Vec<PlannedHistory>) {
        let node = self.graph.nodes[index].clone();
        let mut place = Place::new(self, index, triggers, parent, last);
        if let Root::Context(ContextName::Named(name)) = &node.root {
            // Its files are a layer like any other, and every layer has an entry.
            let layer = place.state.last;
            place.history(format!("FROM {name}"), Some(layer));
        }
        if !node.replaced {
            for (ordinal, trigger) in triggers.iter().enumerate() {
                place.trigger(trigger, ordinal);
            }
            let dockerfile = place.planner.dockerfile;
            for (ordinal, statement) in dockerfile.stages[index].instructions.iter().enumerate() {
                place.instruction(statement, ordinal);
            }
        }
        place.finish()
    }

    fn image(&self, target: usize, state: StageState, chapters: &BTreeMap<usize, Chapter>) -> PlannedStage {
        let mut history = Vec::new();
        let mut at = Some(target);
        while let Some(chapter) = at.and_then(|index| chapters.get(&index)) {
            history.extend(chapter.entries.iter().rev().cloned());
            at = chapter.below;
        }
        history.reverse();
        let StageState { scope, mut config, platform, base, last, .. } = state;
        config.config.env = scope.config_env();
        config.created = Some(self.created);
        if self.options.platform_given {
            say_platform(&mut config.platform, &self.options.platform);
        }
        config.platform = config.platform.normalized();
        config.config.labels.extend(self.options.labels.clone());
        let stage = &self.dockerfile.stages[target];
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

    /// Build arguments that no ARG of the file names and that mean nothing by themselves, with the name that
    /// was perhaps meant.
    fn unused_args(&self) -> BTreeMap<String, Option<String>> {
        let globals = self.dockerfile.global_args.iter().flat_map(|s| &s.node.items);
        let stages = self.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let local = stages.filter_map(|statement| match &statement.node {
            Instruction::Arg(arg) => Some(&arg.items),
            _ => None,
        });
        let known: BTreeSet<&str> = globals.chain(local.flatten()).map(|item| item.name.as_str()).collect();
        let given = self.options.build_args.keys();
        given
            .filter(|name| {
                !known.contains(name.as_str()) && !self.triggered.contains(*name) && !globals::is_predefined(name)
            })
            .map(|name| {
                let meant = crate::dockerfile::suggest::nearest(name, known.iter().copied());
                (name.clone(), meant.map(str::to_owned))
            })
            .collect()
    }

    /// The step that does `kind` to `inputs`: a new one, or one that is there already.
    pub(super) fn step(&mut self, kind: StepKind, inputs: Vec<StepId>, meta: StepMeta) -> StepId {
        let twins = self.same.entry((inputs.clone(), meta.no_cache)).or_default();
        match twins.binary_search_by(|id| self.steps[id.index()].kind.cmp(&kind)) {
            Ok(at) => twins[at],
            Err(at) => {
                let id = StepId(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
                twins.insert(at, id);
                self.steps.push(Step { id, kind, inputs, meta });
                id
            }
        }
    }

    /// The step that `root` stands for: a base, or the end of a stage.
    pub(super) fn root_step(&mut self, root: &Root, last: &BTreeMap<usize, StepId>, meta: StepMeta) -> Option<StepId> {
        let base = match root {
            Root::Stage(stage) => return last.get(stage).copied(),
            Root::Unknown => return None,
            Root::Scratch => Base::Scratch,
            Root::Image(request) => Base::Image(request.clone()),
            Root::Context(name) => Base::Context(name.clone()),
        };
        // A base reads nothing from the cache, so that stages with and without it share one.
        Some(self.step(StepKind::Base(base), Vec::new(), StepMeta { no_cache: false, ..meta }))
    }

    /// Where files behind a `--from` come from, and the step to wait for.
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

    /// The config that a stage of this root starts with, and whether it is only assumed.
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
            // Its layers need entries, or those that follow would be taken for theirs.
            let entry = History { comment: Some("layer of a base without history".to_owned()), ..History::default() };
            config.history = vec![entry; config.rootfs.diff_ids.len()];
        }
        (config, false)
    }

    /// The escape character of the file.
    pub(super) fn escape(&self) -> Escape {
        self.dockerfile.escape()
    }
}
