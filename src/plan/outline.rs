//! Describes a Dockerfile without building it: `check --targets` lists its stages, `check --outline` the arguments,
//! secrets, SSH agents and cache mounts of a target. The JSON has the shape of BuildKit's `--call=…,format=json`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::dockerfile::{Dockerfile, Source, Span};

/// The stages of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Targets {
    /// In file order.
    pub targets: Vec<Target>,
    /// The file, in base64.
    pub sources: Vec<String>,
}

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    /// Lower-case; absent if the FROM names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is built if `--target` is absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// The comment above FROM that starts with the stage's name (P-20).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The image or stage in FROM, unexpanded.
    pub base: String,
    /// The value of `--platform`, unexpanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The FROM line.
    pub location: Location,
}

/// The parameters of a target: what a build can pass to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target; absent if its FROM names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The comment above its FROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Build arguments, in file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// Secrets, in file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineInput>,
    /// SSH agents, in file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineInput>,
    /// Cache mounts, in file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<OutlineCache>,
    /// The file, in base64.
    pub sources: Vec<String>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// The comment above ARG that starts with its name (P-20).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its value in a build with the current options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The ARG line.
    pub location: Location,
}

/// A secret or an SSH agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineInput {
    /// Its id.
    pub name: String,
    /// The build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The RUN line.
    pub location: Location,
}

/// A cache mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineCache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The RUN line.
    pub location: Location,
}

/// Lines of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// One range.
    pub ranges: [Lines; 1],
}

/// A range of lines, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// The first.
    pub start: Line,
    /// The last.
    pub end: Line,
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Counted from 1.
    pub line: usize,
}

impl Location {
    fn new(source: &Source, span: Span) -> Self {
        let line = |at| Line { line: source.position(at).line };
        Self { ranges: [Lines { start: line(span.start), end: line(span.end.saturating_sub(1).max(span.start)) }] }
    }
}

/// The stages of a file. Needs no base image: nothing is expanded.
pub(crate) fn targets(dockerfile: &Dockerfile) -> Targets {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, &crate::dockerfile::Stage)| Target {
        name: stage.name.as_ref().map(|name| name.node.clone()),
        default: index == last,
        description: stage.description.clone(),
        base: stage.from.node.image.text.clone(),
        platform: stage.from.node.platform.as_ref().map(|word| word.text.clone()),
        location: Location::new(&dockerfile.source, stage.from.span),
    };
    Targets {
        targets: dockerfile.stages.iter().enumerate().map(target).collect(),
        sources: vec![STANDARD.encode(dockerfile.source.text())],
    }
}

/// A parameter of an instruction in a needed stage.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) kind: ParameterKind,
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) stage: usize,
}

#[derive(Clone, Debug)]
pub(super) enum ParameterKind {
    Arg { value: Option<String>, description: Option<String> },
    Secret { required: bool },
    Ssh { required: bool },
    Cache,
}

/// The outline of stage `target`. Of several parameters with one name, that of the target wins, then that of the first
/// stage; within a stage the last one wins.
pub(super) fn outline(dockerfile: &Dockerfile, target: usize, mut parameters: Vec<Parameter>) -> Outline {
    parameters.sort_by_key(|p| (p.stage != target, p.stage, Reverse(p.span)));
    let mut known: BTreeSet<(u8, String)> = BTreeSet::new();
    parameters.retain(|p| {
        let kind = match p.kind {
            ParameterKind::Arg { .. } => 0,
            ParameterKind::Secret { .. } => 1,
            ParameterKind::Ssh { .. } => 2,
            ParameterKind::Cache => 3,
        };
        known.insert((kind, p.name.clone()))
    });
    parameters.sort_by_key(|p| p.span);
    let stage = &dockerfile.stages[target];
    let mut out = Outline {
        name: stage.name.as_ref().map(|name| name.node.clone()),
        description: stage.description.clone(),
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        cache: Vec::new(),
        sources: vec![STANDARD.encode(dockerfile.source.text())],
    };
    for Parameter { kind, name, span, .. } in parameters {
        let location = Location::new(&dockerfile.source, span);
        match kind {
            ParameterKind::Arg { value, description } => {
                out.args.push(OutlineArg { name, description, value, location });
            }
            ParameterKind::Secret { required } => out.secrets.push(OutlineInput { name, required, location }),
            ParameterKind::Ssh { required } => out.ssh.push(OutlineInput { name, required, location }),
            ParameterKind::Cache => out.cache.push(OutlineCache { id: name, location }),
        }
    }
    out
}
