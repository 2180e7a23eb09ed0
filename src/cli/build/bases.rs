//! From a Dockerfile to a plan: images are resolved as planning needs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cli::failure::{Failure, describe};
use crate::cli::read::Read;
use crate::cli::request::BuildRequest;
use crate::dockerfile::mount::MountKey;
use crate::dockerfile::suggest::nearest;
use crate::dockerfile::{Diagnostic, Instruction, Word};
use crate::engine::{BaseImage, ImageError, ImageSource};
use crate::oci::reference::Reference;
use crate::plan::{self, Base, Configs, ImageRequest, Plan, Planned, StepKind};

/// A plan and its images.
pub(super) struct Resolved {
    pub(super) plan: Arc<Plan>,
    pub(super) bases: BTreeMap<ImageRequest, BaseImage>,
}

/// Plans. Ok: every image of the plan is resolved.
pub(super) fn plan(read: &Read, request: &BuildRequest, images: &dyn ImageSource) -> Result<Resolved, Failure> {
    let mut bases: BTreeMap<ImageRequest, BaseImage> = BTreeMap::new();
    let mut configs = Configs::new();
    loop {
        let wrong = |problems| Failure::diagnostics(&read.dockerfile.source, problems);
        match plan::plan(&read.dockerfile, &request.source.options, &configs).map_err(wrong)? {
            Planned::Done(plan) => {
                // Planning does not need the config of an image that is only copied from.
                for step in &plan.steps {
                    if let StepKind::Base(Base::Image(wanted)) = &step.kind
                        && !bases.contains_key(wanted.as_ref())
                    {
                        let image = images.resolve(wanted).map_err(|e| not_found(&e, wanted, read))?;
                        bases.insert(wanted.as_ref().clone(), image);
                    }
                }
                return Ok(Resolved { plan: Arc::new(*plan), bases });
            }
            Planned::Needs(needs) => {
                for wanted in needs {
                    let image = images.resolve(&wanted).map_err(|e| not_found(&e, &wanted, read))?;
                    configs.insert(wanted.clone(), image.config.clone());
                    bases.insert(wanted, image);
                }
            }
        }
    }
}

/// The hint for a number in place of an image (M-4).
const NO_NUMBERS: &str = "name the stage with FROM … AS NAME: only COPY --from accepts a number";

/// A failure to resolve an image, at the word that names it, if the name is literal.
fn not_found(error: &ImageError, wanted: &ImageRequest, read: &Read) -> Failure {
    let (kind, message, hint) = describe(error);
    match place(wanted, read) {
        Some(word) => {
            let mut diagnostic = Diagnostic::error(word.span, message);
            let number = || word.text.parse::<usize>().is_ok().then(|| NO_NUMBERS.to_owned());
            let meant = stage_like(word, read).or_else(number).filter(|_| matches!(error, ImageError::NotFound { .. }));
            if let Some(hint) = meant.or(hint) {
                diagnostic = diagnostic.hint(hint);
            }
            let mut failure = Failure::diagnostics(&read.dockerfile.source, vec![diagnostic]);
            failure.kind = kind;
            failure
        }
        None => {
            let failure = Failure::new(kind, message);
            hint.into_iter().fold(failure, Failure::hint)
        }
    }
}

/// The word that names `wanted` literally: in FROM, `--from` or a mount.
fn place<'r>(wanted: &ImageRequest, read: &'r Read) -> Option<&'r Word> {
    let plan::ImageName::Reference(name) = &wanted.image else { return None };
    let mut words: Vec<&Word> = Vec::new();
    for stage in &read.dockerfile.stages {
        words.push(&stage.from.node.image);
        for statement in &stage.instructions {
            match &statement.node {
                Instruction::Copy(copy) => words.extend(&copy.from),
                Instruction::Run(run) => {
                    let options = run.mounts.iter().flat_map(|mount| &mount.options);
                    words.extend(options.filter(|o| o.key == MountKey::From).filter_map(|o| o.value.as_ref()));
                }
                _ => {}
            }
        }
    }
    words.into_iter().find(|word| word.text.parse().is_ok_and(|written: Reference| &written == name))
}

/// A hint with a stage of a similar name (C-18).
fn stage_like(word: &Word, read: &Read) -> Option<String> {
    let names = read.dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref());
    nearest(&word.text, names.map(|name| name.node.as_str())).map(|name| format!("did you mean the stage `{name}`?"))
}
