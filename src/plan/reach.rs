//! Determines which stages a target needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{Diagnostic, Dockerfile};

use super::graph::{Graph, Root, references};
use super::options::{Configs, Options};
use super::step::ImageRequest;
use super::trigger::{Trigger, image_triggers, parse_triggers, stage_triggers};

/// The stages that are needed, and the triggers that fire in them.
#[derive(Default)]
pub(super) struct Reach {
    pub(super) stages: BTreeMap<usize, Vec<Trigger>>,
    /// Images whose configs must be known first.
    pub(super) needs: BTreeSet<ImageRequest>,
}

impl Reach {
    /// Follows FROM, `--from` and `from=` from the target on, including those in ONBUILD triggers.
    pub(super) fn walk(
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
                    for (word, number) in references(&statement.node) {
                        // Errors are reported when the stage is planned.
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
