//! Collects and parses the ONBUILD triggers that fire in a stage (I-13).

use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Source, Statement, parse_trigger};
use crate::oci::config::ImageConfig;

use super::graph::{Graph, Root};
use super::options::Configs;
use super::step::ImageRequest;

/// An ONBUILD trigger that fires in a stage (I-13).
pub(super) struct Trigger {
    /// The instruction.
    pub(super) statement: Statement<Instruction>,
    /// The text that its spans index.
    pub(super) source: Source,
    /// The image or stage that defines it.
    pub(super) origin: String,
}

/// The triggers that stage `below` defines for the stages that start from it: text and origin.
pub(super) fn stage_triggers(
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

/// The triggers of an image: text and origin.
pub(super) fn image_triggers(request: &ImageRequest, config: &ImageConfig) -> Vec<(String, String)> {
    let texts = config.config.on_build.iter().flatten();
    texts.map(|text| (text.clone(), format!("image {}", request.image))).collect()
}

/// Parses triggers; errors are added to `problems`.
pub(super) fn parse_triggers(texts: Vec<(String, String)>, problems: &mut Vec<Diagnostic>) -> Vec<Trigger> {
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
