//! From a Dockerfile to a plan: images are looked up as planning asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::build::{BaseImage, ImageError, ImageSource};
use crate::cli::failure::{Failure, Kind};
use crate::cli::read::Read;
use crate::cli::request::BuildRequest;
use crate::dockerfile::{Diagnostic, Span};
use crate::plan::{self, Base, Configs, ImageRequest, Plan, Planned, StepKind};
use crate::registry;

/// A plan, and the images it names.
pub(super) struct Resolved {
    pub(super) plan: Arc<Plan>,
    pub(super) bases: BTreeMap<ImageRequest, BaseImage>,
}

/// Plans. Ok: every image the plan names was found.
pub(super) fn plan(read: &Read, request: &BuildRequest, images: &dyn ImageSource) -> Result<Resolved, Failure> {
    let mut bases: BTreeMap<ImageRequest, BaseImage> = BTreeMap::new();
    let mut configs = Configs::new();
    loop {
        let wrong = |problems| Failure::diagnostics(&read.dockerfile.source, problems);
        match plan::plan(&read.dockerfile, &request.source.options, &configs).map_err(wrong)? {
            Planned::Done(plan) => {
                // Of an image that is only copied from, planning needs nothing.
                for step in &plan.steps {
                    if let StepKind::Base(Base::Image(wanted)) = &step.kind
                        && !bases.contains_key(wanted.as_ref())
                    {
                        let image = images.resolve(wanted).map_err(|e| not_had(&e, wanted, read))?;
                        bases.insert(wanted.as_ref().clone(), image);
                    }
                }
                return Ok(Resolved { plan: Arc::new(*plan), bases });
            }
            Planned::Needs(needs) => {
                for wanted in needs {
                    let image = images.resolve(&wanted).map_err(|e| not_had(&e, &wanted, read))?;
                    configs.insert(wanted.clone(), image.config.clone());
                    bases.insert(wanted, image);
                }
            }
        }
    }
}

/// A failure to find an image, at the FROM that names it where it does so literally.
fn not_had(error: &ImageError, wanted: &ImageRequest, read: &Read) -> Failure {
    let (kind, message, hint) = describe(error);
    match place(wanted, read) {
        Some(span) => {
            let mut diagnostic = Diagnostic::error(span, message);
            if let Some(hint) = hint {
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

/// Exit code, message and hint of an image that could not be had.
pub(in crate::cli) fn describe(error: &ImageError) -> (Kind, String, Option<String>) {
    let message = crate::cli::failure::chain(error);
    let of_registry = |e: &registry::Error| match e {
        registry::Error::Network { .. } | registry::Error::Tls { .. } => Kind::Host,
        registry::Error::Cancelled => Kind::Interrupted,
        _ => Kind::Build,
    };
    match error {
        ImageError::NotFound { asked, similar, .. } => {
            let kind = asked.as_deref().map_or(Kind::Build, of_registry);
            let hint = match (similar, asked) {
                (Some(similar), _) => format!("the store has {similar}; `kiln images` lists everything"),
                (None, None) => "--pull never uses only images of the store; `kiln pull` fetches one".to_owned(),
                (None, Some(_)) => {
                    "`kiln import` makes a base image of a directory or tar, `kiln images` lists what the store has"
                        .to_owned()
                }
            };
            (kind, message, Some(hint))
        }
        ImageError::Registry { source, .. } => (of_registry(source), message, None),
        ImageError::Lost { source, .. } => {
            (of_registry(source), message, Some("pull or import the image again".to_owned()))
        }
        ImageError::Store { .. } => (Kind::Build, message, None),
    }
}

/// The FROM that asks for `wanted` in so many words.
fn place(wanted: &ImageRequest, read: &Read) -> Option<Span> {
    let plan::ImageName::Reference(name) = &wanted.image else { return None };
    let image = read.dockerfile.stages.iter().map(|stage| &stage.from.node.image);
    image
        .filter(|word| word.text.parse().is_ok_and(|written: crate::oci::reference::Reference| &written == name))
        .map(|word| word.span)
        .next()
}
