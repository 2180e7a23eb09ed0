//! What a Dockerfile offers, without building it: `check --targets` lists its stages, `check --outline` what a target
//! takes. The JSON has the shape of BuildKit's `--call=…,format=json`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::dockerfile::{Dockerfile, Source, Span};

/// The stages of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Targets {
    /// In the order of the file.
    pub targets: Vec<Target>,
    /// The file, in base64.
    pub sources: Vec<String>,
}

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Lower-case; absent if the FROM names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is what is built if no target is asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// The comment above FROM that starts with the stage's name (P-20).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What FROM names, unexpanded.
    pub base: String,
    /// What `--platform` says, unexpanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The FROM.
    pub location: Location,
}

/// What a target takes from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target; absent if its FROM names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The comment above its FROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Build arguments, by place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// Secrets, by place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineInput>,
    /// SSH agents, by place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineInput>,
    /// Cache mounts, by place.
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
    /// What it would be now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The ARG.
    pub location: Location,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineInput {
    /// Its id.
    pub name: String,
    /// The build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The RUN.
    pub location: Location,
}

/// A cache mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineCache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The RUN.
    pub location: Location,
}

/// Lines of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// One range.
    pub ranges: [Lines; 1],
}

/// From a line to a line, both included, counted from 1.
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
pub fn targets(dockerfile: &Dockerfile) -> Targets {
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

/// One thing that an instruction of a needed stage takes.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) what: What,
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) stage: usize,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Arg { value: Option<String>, description: Option<String> },
    Secret { required: bool },
    Ssh { required: bool },
    Cache,
}

/// The outline of stage `target`: of several that take the same, the target's own counts, else that of the first stage,
/// and in a stage the last.
pub(super) fn outline(dockerfile: &Dockerfile, target: usize, mut taken: Vec<Taken>) -> Outline {
    taken.sort_by_key(|t| (t.stage != target, t.stage, Reverse(t.span)));
    let mut known: BTreeSet<(u8, String)> = BTreeSet::new();
    taken.retain(|t| {
        let kind = match t.what {
            What::Arg { .. } => 0,
            What::Secret { .. } => 1,
            What::Ssh { .. } => 2,
            What::Cache => 3,
        };
        known.insert((kind, t.name.clone()))
    });
    taken.sort_by_key(|t| t.span);
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
    for Taken { what, name, span, .. } in taken {
        let location = Location::new(&dockerfile.source, span);
        match what {
            What::Arg { value, description } => out.args.push(OutlineArg { name, description, value, location }),
            What::Secret { required } => out.secrets.push(OutlineInput { name, required, location }),
            What::Ssh { required } => out.ssh.push(OutlineInput { name, required, location }),
            What::Cache => out.cache.push(OutlineCache { id: name, location }),
        }
    }
    out
}
