//! All stages, and how their names resolve inside a given stage.

use std::collections::BTreeMap;

use crate::dockerfile::{Diagnostic, Dockerfile, Span, Word};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::plan::options::{NamedContext, Options};
use crate::plan::step::{ContextName, ImageName, ImageRequest};

use super::from::references;
use super::root::{Node, Root};

/// All stages and their names.
pub(in crate::plan) struct Graph<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a Options,
    pub(in crate::plan) nodes: Vec<Node>,
    /// Positions of the stages of each name, ascending.
    pub(super) names: BTreeMap<String, Vec<usize>>,
}

impl Graph<'_> {
    /// Resolves `name` when it is not a stage: to a named context, `scratch` or an image.
    pub(super) fn root(&self, name: &str, platform: &Platform) -> Result<Root, String> {
        // Parsed first: an upper-case name is invalid even if a context has it.
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

    /// The stages that a stage refers to, in file order. Wrong references, to itself or to later stages, are included.
    pub(super) fn referenced_stages(&self, index: usize) -> Vec<(usize, Span)> {
        let mut out = Vec::new();
        let stage = &self.dockerfile.stages[index];
        if let Root::Stage(below) = self.nodes[index].root {
            out.push((below, stage.from.node.image.span));
        }
        if self.nodes[index].replaced {
            return out;
        }
        for (word, number) in stage.instructions.iter().flat_map(|statement| references(&statement.node)) {
            let found = match (number, word.as_str().parse::<usize>()) {
                (true, Ok(number)) => Some(number).filter(|number| *number < self.nodes.len()),
                _ => self.last_named(word.as_str()),
            };
            out.extend(found.map(|found| (found, word.span)));
        }
        out
    }

    /// The nearest stage before `index` with this lower-case name: the one that FROM refers to.
    pub(super) fn stage_before(&self, name: &str, index: usize) -> Option<usize> {
        let all = self.names.get(name)?;
        all[..all.partition_point(|at| *at < index)].last().copied()
    }

    /// The last stage in the file with this name, in any case: the one that `--from` and `from=` refer to.
    fn last_named(&self, name: &str) -> Option<usize> {
        self.names.get(&name.to_ascii_lowercase())?.last().copied()
    }

    /// The named context for `name` (F-11): `name::os/arch` wins over `name`; `image:latest` equals `image`.
    pub(super) fn named_context(&self, name: &str, platform: &Platform) -> Option<Root> {
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

    /// Resolves a `--from` (C-18) or a mount's `from` (M-4) in stage `index`; `number`: it may be a stage index.
    pub(in crate::plan) fn from(&self, word: &Word, index: usize, number: bool) -> Result<Root, Box<Diagnostic>> {
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
        match self.last_named(name) {
            Some(stage) if stage < index => Ok(Root::Stage(stage)),
            // A later stage that a named context replaces is available from the start.
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
            _ => problem.note("several stages have this name; the last one is used"),
        };
        Box::new(problem.hint("a stage can use only the stages above it"))
    }

    /// The stage to build (F-10).
    pub(in crate::plan) fn target(&self) -> Result<usize, Box<Diagnostic>> {
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
        // A number is not a misspelled name.
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

/// Normalizes a context name like an image name: lower case, without Docker Hub's defaults and `:latest`.
fn normal(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let text = reference.familiar();
            text.strip_suffix(":latest").map_or(text.clone(), str::to_owned)
        }
        Err(_) => name.to_ascii_lowercase(),
    }
}
