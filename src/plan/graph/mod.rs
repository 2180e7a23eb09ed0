//! Which stage stands on what, and what `--from` and `from=` mean at a place (F-2…F-11).

mod cycle;

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::expand::{Expanded, expand};
use crate::dockerfile::mount::{Mount, MountKey};
use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Span, Word};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::globals::Globals;
use super::lints;
use super::options::{NamedContext, Options};
use super::step::{ContextName, ImageName, ImageRequest};

/// What is below a stage's first instruction, or behind a `--from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Nothing (F-5).
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Box<ImageRequest>),
    /// A local context's files.
    Context(ContextName),
    /// It could not be read; that was reported.
    Unknown,
}

/// One stage's FROM, resolved.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What the stage starts from.
    pub(super) root: Root,
    /// What it is for, unless it starts from another stage.
    pub(super) platform: Platform,
    /// A named context stands for the whole stage: its instructions do not count (F-11).
    pub(super) replaced: bool,
    /// The global arguments that its FROM is made of.
    pub(super) used: BTreeSet<String>,
    /// What is odd about its FROM: for those who build the stage.
    pub(super) lints: Vec<Diagnostic>,
}

/// All stages and their names.
pub(super) struct Graph<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a Options,
    pub(super) nodes: Vec<Node>,
    /// Positions of the stages of each name, ascending.
    names: BTreeMap<String, Vec<usize>>,
}

impl<'a> Graph<'a> {
    /// Resolves every FROM, also of stages that are not needed: their words are checked, their images not asked for.
    pub(super) fn new(
        dockerfile: &'a Dockerfile,
        options: &'a Options,
        globals: &Globals,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let defaults = Globals::defaults(dockerfile, options);
        let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            if let Some(name) = &stage.name {
                names.entry(name.node.to_ascii_lowercase()).or_default().push(index);
            }
        }
        let mut graph = Self { dockerfile, options, nodes: Vec::with_capacity(dockerfile.stages.len()), names };
        for index in 0..dockerfile.stages.len() {
            let mut node = graph.resolve(index, globals, problems);
            lints::default_base(dockerfile, index, &defaults, &mut node.lints);
            graph.nodes.push(node);
        }
        graph.check_indices(problems);
        cycle::check(&graph, problems);
        graph
    }

    fn resolve(&self, index: usize, globals: &Globals, problems: &mut Vec<Diagnostic>) -> Node {
        let stage = &self.dockerfile.stages[index];
        let from = &stage.from.node;
        let target = &self.options.platform;
        let (mut used, mut lints) = (BTreeSet::new(), Vec::new());
        let mut read = |word: &Word| -> Option<Expanded> {
            match expand(word, self.dockerfile.escape(), &|name| globals.get(name).map(str::to_owned)) {
                Ok(expanded) => {
                    lints::unset_in_from(&expanded.unset, globals, &mut lints);
                    used.extend(expanded.used.iter().cloned());
                    Some(expanded)
                }
                Err(problem) => {
                    problems.push(*problem);
                    None
                }
            }
        };
        let image = read(&from.image);
        let platform = from.platform.as_ref().map(|word| (word, read(word)));
        if let Some((word, Some(platform))) = &platform {
            lints::redundant_platform(word, platform, target, &mut lints);
            lints::constant_platform(word, platform, stage.name.as_ref(), &mut lints);
        }
        let mut node = Node { root: Root::Unknown, platform: target.clone(), replaced: false, used, lints };
        if let Some((word, Some(platform))) = platform {
            match platform.text.parse() {
                Ok(platform) => node.platform = platform,
                Err(_) if platform.text.is_empty() => {
                    let problem = Diagnostic::error(word.span, format!("--platform is empty: `{word}` has no value"));
                    problems.push(suggest_unset(problem, &platform, globals));
                }
                Err(problem) => {
                    problems.push(suggest_unset(Diagnostic::error(word.span, problem.to_string()), &platform, globals))
                }
            }
        }
        if let Some(name) = &stage.name
            && let Some(root) = self.named_context(&name.node, &node.platform)
        {
            return Node { root, replaced: true, ..node };
        }
        let Some(image) = image else { return node };
        if image.text.is_empty() {
            let problem =
                Diagnostic::error(from.image.span, format!("the base image is empty: `{}` has no value", from.image));
            problems.push(suggest_unset(problem, &image, globals));
            return node;
        }
        // Names of stages are in lower case, and FROM, unlike --from, takes them as they are (N-36).
        if let Some(stage) = self.stage_before(&image.text, index) {
            node.root = Root::Stage(stage);
            return node;
        }
        match self.root(&image.text, &node.platform) {
            Ok(root) => node.root = root,
            Err(why) => {
                let problem = suggest_unset(Diagnostic::error(from.image.span, why), &image, globals);
                let lower = image.text.to_ascii_lowercase();
                problems.push(match self.stage_before(&lower, index) {
                    Some(_) => problem.hint(format!("write FROM {lower}: names of stages are in lower case")),
                    None => problem,
                });
            }
        }
        if image.text == "scratch" && node.root == Root::Scratch {
            // Nothing is for no platform: what is put into it is for the build's.
            node.platform.clone_from(target);
        }
        node
    }

    /// What `name` means if it is no stage: a named context, `scratch` or an image.
    fn root(&self, name: &str, platform: &Platform) -> Result<Root, String> {
        // A name in upper case is none, whatever contexts there are.
        let reference: Reference = name.parse().map_err(|e: crate::oci::reference::InvalidReference| e.to_string())?;
        if let Some(root) = self.named_context(name, platform) {
            return Ok(root);
        }
        if name == "scratch" {
            return Ok(Root::Scratch);
        }
        let request = ImageRequest { image: ImageName::Reference(reference), platform: platform.clone() };
        Ok(Root::Image(Box::new(request)))
    }

    /// The stages that a stage names, in the order of the Dockerfile: those before it and, by mistake, itself and those
    /// after it.
    fn named(&self, index: usize) -> Vec<(usize, Span)> {
        let mut out = Vec::new();
        let stage = &self.dockerfile.stages[index];
        if let Root::Stage(below) = self.nodes[index].root {
            out.push((below, stage.from.node.image.span));
        }
        if self.nodes[index].replaced {
            return out;
        }
        for (word, number) in stage.instructions.iter().flat_map(|statement| froms(&statement.node)) {
            let found = match (number, word.as_str().parse::<usize>()) {
                (true, Ok(number)) => Some(number).filter(|number| *number < self.nodes.len()),
                _ => self.last_called(word.as_str()),
            };
            out.extend(found.map(|found| (found, word.span)));
        }
        out
    }

    /// The nearest stage called `name`, which is in lower case, before stage `index`: what FROM means.
    fn stage_before(&self, name: &str, index: usize) -> Option<usize> {
        let all = self.names.get(name)?;
        all[..all.partition_point(|at| *at < index)].last().copied()
    }

    /// The last stage of the file called `name`, in any case: what `--from` and `from=` mean, wherever they are.
    fn last_called(&self, name: &str) -> Option<usize> {
        self.names.get(&name.to_ascii_lowercase())?.last().copied()
    }

    /// The named context that stands for `name` (F-11): `name::os/arch` before `name`, `image:latest` equal to `image`.
    fn named_context(&self, name: &str, platform: &Platform) -> Option<Root> {
        if self.options.contexts.is_empty() {
            return None;
        }
        let plain = normal(name);
        let special = format!("{plain}::{platform}");
        let matching = |wanted: &str| {
            self.options.contexts.iter().find(|(given, _)| match given.split_once("::") {
                Some((given, platform)) => wanted.split_once("::") == Some((normal(given).as_str(), platform)),
                None => normal(given) == wanted,
            })
        };
        let (given, context) = matching(&special).or_else(|| matching(&plain))?;
        let image = match context {
            NamedContext::Scratch => return Some(Root::Scratch),
            NamedContext::Local => return Some(Root::Context(ContextName::Named(given.clone()))),
            NamedContext::Image(reference) => ImageName::Reference(reference.clone()),
            NamedContext::Layout(at) => ImageName::Layout(at.clone()),
        };
        Some(Root::Image(Box::new(ImageRequest { image, platform: platform.clone() })))
    }

    /// What a `--from` (`number` = it may be a stage's index, C-18) or a mount's `from` (M-4) means in stage `index`.
    pub(super) fn from(&self, word: &Word, index: usize, number: bool) -> Result<Root, Box<Diagnostic>> {
        let name = word.as_str();
        let error = |message: String| Box::new(Diagnostic::error(word.span, message));
        if name.contains('$') {
            return Err(Box::new(
                Diagnostic::error(word.span, "variables are not expanded here")
                    .hint("use an ARG before the first FROM in a `FROM … AS name`, and name that stage"),
            ));
        }
        if let (true, Ok(number)) = (number, name.parse::<i64>()) {
            return match usize::try_from(number) {
                Ok(number) if number < index => Ok(Root::Stage(number)),
                Ok(number) if number < self.nodes.len() => Err(self.too_late(word, index, number)),
                _ => Err(error(format!("there is no stage {number}: the file has {}", self.nodes.len()))),
            };
        }
        match self.last_called(name) {
            Some(stage) if stage < index => Ok(Root::Stage(stage)),
            // A named context in a stage's place is there from the start.
            Some(stage) if self.nodes[stage].replaced => Ok(self.nodes[stage].root.clone()),
            Some(later) => Err(self.too_late(word, index, later)),
            None => self.root(name, &self.options.platform).map_err(error),
        }
    }

    fn too_late(&self, word: &Word, index: usize, later: usize) -> Box<Diagnostic> {
        let problem = match later == index {
            true => Diagnostic::error(word.span, format!("stage `{word}` cannot copy from itself")),
            false => Diagnostic::error(word.span, format!("stage `{word}` must be defined before this stage"))
                .also(self.dockerfile.stages[later].from.span, "it is defined here"),
        };
        let problem = match self.names.get(&word.text.to_ascii_lowercase()).map_or(0, Vec::len) {
            0 | 1 => problem,
            _ => problem.note("of several stages with one name, the last is meant"),
        };
        Box::new(problem.hint("a stage can use only the stages above it"))
    }

    /// An index that no stage has is wrong wherever it is written (F-9).
    fn check_indices(&self, problems: &mut Vec<Diagnostic>) {
        for stage in &self.dockerfile.stages {
            for statement in &stage.instructions {
                if let Instruction::Copy(copy) = &statement.node
                    && let Some(from) = &copy.from
                    && let Ok(number) = from.as_str().parse::<i64>()
                    && !usize::try_from(number).is_ok_and(|n| n < self.dockerfile.stages.len())
                {
                    let count = self.dockerfile.stages.len();
                    let message = format!("there is no stage {number}: the file has {count}");
                    problems.push(Diagnostic::error(from.span, message));
                }
            }
        }
    }

    /// The stage to build (F-10).
    pub(super) fn target(&self) -> Result<usize, Box<Diagnostic>> {
        let last = self.nodes.len().saturating_sub(1);
        let Some(target) = &self.options.target else { return Ok(last) };
        if let Some(all) = self.names.get(&target.to_ascii_lowercase()) {
            return Ok(all.last().copied().unwrap_or(last));
        }
        if let Ok(number) = target.parse::<usize>()
            && number < self.nodes.len()
        {
            return Ok(number);
        }
        let problem = Diagnostic::error(Span::default(), format!("there is no stage `{target}`"));
        let known: Vec<&str> = self.names.keys().map(String::as_str).collect();
        // A number is no typo of a name.
        let problem = match target.parse::<u64>() {
            Ok(_) => problem,
            Err(_) => problem.suggest(target, known.iter().copied()),
        };
        Err(Box::new(match known.is_empty() {
            true => problem.note("no stage has a name; they are numbered from 0"),
            false => problem.note(format!("stages: {}", known.join(", "))),
        }))
    }
}

/// The words of an instruction that name other stages, and whether they may be numbers.
pub(super) fn froms(instruction: &Instruction) -> Vec<(&Word, bool)> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().map(|word| (word, true)).collect(),
        Instruction::Run(run) => {
            run.mounts.iter().filter_map(|mount| mount_from(mount).map(|word| (word, false))).collect()
        }
        _ => Vec::new(),
    }
}

/// The value of a mount's `from`, if it has one.
pub(super) fn mount_from(mount: &Mount) -> Option<&Word> {
    let last = mount.options.iter().rev().find(|o| o.key == MountKey::From)?;
    last.value.as_ref().filter(|word| !word.text.is_empty())
}

fn suggest_unset(problem: Diagnostic, expanded: &Expanded, globals: &Globals) -> Diagnostic {
    let mut problem = problem;
    for unset in &expanded.unset {
        problem = problem.suggest(&unset.node, globals.names());
    }
    if !expanded.unset.is_empty() {
        problem = problem.note("FROM sees only ARGs before the first FROM");
    }
    problem
}

/// Names of contexts are compared as images: in lower case, with Docker Hub's defaults and `:latest` left out.
fn normal(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let text = reference.familiar();
            text.strip_suffix(":latest").map_or(text.clone(), str::to_owned)
        }
        Err(_) => name.to_ascii_lowercase(),
    }
}
