//! Resolves every FROM to a stage, an image, a context or nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::ast::From;
use crate::dockerfile::expand::{Expanded, expand};
use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Word};
use crate::oci::platform::Platform;
use crate::plan::globals::Globals;
use crate::plan::lints;
use crate::plan::options::Options;

use super::cycle;
use super::root::{Node, Root};
use super::stages::Graph;

/// Resolves every FROM. Stages that the target does not need are checked too, but their images are not requested.
pub(in crate::plan) fn graph<'a>(
    dockerfile: &'a Dockerfile,
    options: &'a Options,
    globals: &Globals,
    problems: &mut Vec<Diagnostic>,
) -> Graph<'a> {
    let defaults = Globals::defaults(dockerfile, options);
    let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        if let Some(name) = &stage.name {
            names.entry(name.node.to_ascii_lowercase()).or_default().push(index);
        }
    }
    let mut graph = Graph { dockerfile, options, nodes: Vec::with_capacity(dockerfile.stages.len()), names };
    for index in 0..dockerfile.stages.len() {
        let mut node = resolve(&graph, index, globals, problems);
        lints::default_base(dockerfile, index, &defaults, &mut node.lints);
        graph.nodes.push(node);
    }
    check_indices(dockerfile, problems);
    cycle::check(&graph, problems);
    graph
}

/// Resolves stage `index`; the stages before it are already in `graph`.
fn resolve(graph: &Graph<'_>, index: usize, globals: &Globals, problems: &mut Vec<Diagnostic>) -> Node {
    let stage = &graph.dockerfile.stages[index];
    let from = &stage.from.node;
    let target = &graph.options.platform;
    let (mut used, mut lints) = (BTreeSet::new(), Vec::new());
    let mut read = |word: &Word| -> Option<Expanded> {
        match expand(word, graph.dockerfile.escape(), &|name| globals.get(name).map(str::to_owned)) {
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
    let platform = from.platform.as_ref().and_then(|word| Some((word, read(word)?)));
    let mut node = Node { root: Root::Unknown, platform: target.clone(), replaced: false, used, lints };
    if let Some((word, text)) = &platform {
        lints::redundant_platform(word, text, target, &mut node.lints);
        lints::constant_platform(word, text, stage.name.as_ref(), &mut node.lints);
        match platform_of(word, text) {
            Ok(platform) => node.platform = platform,
            Err(problem) => problems.push(suggest_unset(*problem, text, globals)),
        }
    }
    if let Some(name) = &stage.name
        && let Some(root) = graph.named_context(&name.node, &node.platform)
    {
        return Node { root, replaced: true, ..node };
    }
    let Some(image) = image else { return node };
    match base(graph, index, from, &image, &node.platform) {
        Ok(root) => node.root = root,
        Err(problem) => problems.push(suggest_unset(*problem, &image, globals)),
    }
    if image.text == "scratch" && node.root == Root::Scratch {
        // `scratch` has no platform; its stage gets that of the build.
        node.platform.clone_from(target);
    }
    node
}

/// Parses the platform of a FROM.
fn platform_of(word: &Word, text: &Expanded) -> Result<Platform, Box<Diagnostic>> {
    text.text.parse().map_err(|problem: crate::oci::platform::InvalidPlatform| {
        let message = match text.text.is_empty() {
            true => format!("--platform is empty: `{word}` has no value"),
            false => problem.to_string(),
        };
        Box::new(Diagnostic::error(word.span, message))
    })
}

/// Resolves the image word of a FROM.
fn base(
    graph: &Graph<'_>,
    index: usize,
    from: &From,
    image: &Expanded,
    platform: &Platform,
) -> Result<Root, Box<Diagnostic>> {
    if image.text.is_empty() {
        let message = format!("the base image is empty: `{}` has no value", from.image);
        return Err(Box::new(Diagnostic::error(from.image.span, message)));
    }
    // Stage names are lower-case, and FROM, unlike --from, compares them exactly (N-36).
    if let Some(stage) = graph.stage_before(&image.text, index) {
        return Ok(Root::Stage(stage));
    }
    graph.root(&image.text, platform).map_err(|why| {
        let problem = Diagnostic::error(from.image.span, why);
        let lower = image.text.to_ascii_lowercase();
        Box::new(match graph.stage_before(&lower, index) {
            Some(_) => problem.hint(format!("write FROM {lower}: stage names are lower-case")),
            None => problem,
        })
    })
}

/// Rejects stage indexes that are out of range, also in stages that are not needed (F-9).
fn check_indices(dockerfile: &Dockerfile, problems: &mut Vec<Diagnostic>) {
    let count = dockerfile.stages.len();
    for statement in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
        if let Instruction::Copy(copy) = &statement.node
            && let Some(from) = &copy.from
            && let Ok(number) = from.as_str().parse::<i64>()
            && !usize::try_from(number).is_ok_and(|n| n < count)
        {
            let message = format!("there is no stage {number}: the file has {count}");
            problems.push(Diagnostic::error(from.span, message));
        }
    }
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
